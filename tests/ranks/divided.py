"""What ranks divide among them: run as a script by each rank, and called by the test as the one rank of its own job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rank_runs import save_found
from scoring import WITH_NORMS, own
from torch import Tensor, nn
from zoo import ZOO

import oba
from oba import registry
from oba.importance import parameter_scores, score_structures
from oba.importance.criterion import make_criterion
from oba.importance.weights import weight_scores
from oba.pruning.dependencies import find_groups
from oba.pruning.statistics import mean_loss, recalibrate_norms
from oba.training.evaluation import evaluate

MEMBER = next(member for member in ZOO if member.name == "conv_bn")
CASES = [
    ("four batches", (4, 3, 1, 5), torch.float64),
    ("one batch", (4,), torch.float64),  # nothing is left for the second rank
    ("single precision", (4, 3, 1, 5), torch.float32),
]
UPDATES = [*registry.names("update"), {"name": "least-squares", "inputs": "before"}]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, own(name, norm=norm, samples=2)) for name, norm in WITH_NORMS),
    *(("oba-diag", {"hessian": hessian, "samples": 2}) for hessian in ("exact", "probes", "gauss-newton")),
    *(("taylor", {"over_batches": joined}) for joined in ("mean-of-abs", "rms")),
    ("kron-obs", {"labels": "given"}),
]
WEIGHTS = [name for name, norm in WITH_NORMS if norm == "eval" and make_criterion(name).for_weights()]


def net(dtype: torch.dtype) -> nn.Module:
    return MEMBER.make().to(dtype)


def batches(sizes: tuple[int, ...], dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    pairs = (MEMBER.batch(size, seed) for seed, size in enumerate(sizes))
    return [(inputs.to(dtype), targets) for inputs, targets in pairs]


def scored(images: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Scores of structures and of weights by every criterion."""
    model = net(dtype)
    groups = find_groups(model, (2, 6, 6))
    for name, options in VARIANTS:
        if options.get("norm") == "train" and any(len(inputs) == 1 for inputs, _ in images):
            images = [pair for pair in images if len(pair[0]) > 1]
        found = score_structures(model, groups, iter(images), name, **options)
        for what in ("alone", "standard_error", "curves"):
            for group, tensor in (getattr(found, what) or {}).items():
                yield f"{name} {options} {what} {group}", tensor
        if found.interactions is not None:
            yield f"{name} {options} interactions", found.interactions
    for name in WEIGHTS:
        signed = parameter_scores(model, iter(images), name)
        names = [n for n, p in model.named_parameters() if p.dim() > 1]
        options = own(name, add_magnitude=True)
        joined = weight_scores(model, names, iter(images), make_criterion(name, **options))
        yield from ((f"{name} signed {n}", tensor) for n, tensor in signed.items())
        yield from ((f"{name} joined {n}", tensor) for n, tensor in joined.items())


def adjusted(images: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Statistics, and nets that were pruned with every update and by weights."""
    model = net(dtype)
    recalibrate_norms(model, lambda: iter(images))
    yield "mean loss", torch.tensor(mean_loss(model, lambda: iter(images)))
    yield from ((f"statistics {name}", tensor) for name, tensor in model.named_buffers())
    methods = [{"criterion": "taylor", "allocation": "uniform", "update": update, "rounds": 2} for update in UPDATES]
    methods += [{"criterion": "oba", "granularity": "weights", "rounds": 2}]
    for method in methods:
        pruned = oba.prune(net(dtype), images, keep=0.6, method=method)
        yield from ((f"{method} {name}", tensor) for name, tensor in pruned.state_dict().items())


class FewImages:
    """Seven images in batches of any size: the last ranks have none of the last batch."""

    def batches(self, batch_size: int, part: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor]]:
        inputs, targets = MEMBER.batch(7, seed=1)
        for some, of_them in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
            yield some[part[0] :: part[1]], of_them[part[0] :: part[1]]


def evaluated() -> Iterator[tuple[str, Tensor]]:
    """What a net is worth on uneven batches."""
    for size in (1, 3, 7, 8):
        found = evaluate(net(torch.float64), FewImages(), batch_size=size, device=torch.device("cpu"))  # pyright: ignore
        yield f"evaluated {size}", torch.tensor([found.loss, found.top1, found.images], dtype=torch.float64)


def everything(folder: Path) -> dict[str, Tensor]:
    """All results by name."""
    found = dict(evaluated())
    for kind, sizes, dtype in CASES:
        images = batches(sizes, dtype)
        for results in (scored, adjusted):
            found |= {f"{kind} {results.__name__} {name}": t.detach().clone() for name, t in results(images, dtype)}
    return found


if __name__ == "__main__":
    save_found(everything)

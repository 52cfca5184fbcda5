"""Whole rounds on a trained net: what criterion and update are worth, and what a round records of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oba.config import Floors
from oba.importance import score_structures
from oba.importance.scores import StructureScores
from oba.models import build_model
from oba.pruning.cut import make_update
from oba.pruning.dependencies import find_groups
from oba.pruning.levels import Steps, prune_to_level
from oba.pruning.plan import Plan
from oba.pruning.problem import make_allocation
from oba.records import Round
from oba.structures import StructureGroup

SIZE = (1, 8, 8)


class Trained(NamedTuple):
    """A net that has learnt digits, and what it learnt them from."""

    model: nn.Module
    groups: list[StructureGroup]
    images: Tensor
    targets: Tensor

    def batches(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.images[start:stop].split(64), self.targets[start:stop].split(64), strict=True)

    def calibration(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.batches(0, 256)


@pytest.fixture(scope="module")
def trained() -> Iterator[Trained]:
    """Train half of a resnet8 for three epochs of digits: 1,200 images to learn from, the rest to validate."""
    from sklearn.datasets import load_digits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    digits: Any = load_digits()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        order = torch.randperm(len(digits.target))
        images = torch.tensor(digits.images, dtype=torch.float32)[order, None] / 8 - 1
        targets = torch.tensor(digits.target)[order]
        model = build_model("resnet8x0.5", num_classes=10, input_size=SIZE)
        optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
        for epoch in range(3):
            optimizer.param_groups[0]["lr"] = 0.05 / 3**epoch
            for batch in torch.randperm(1200).split(48):
                optimizer.zero_grad()
                F.cross_entropy(model(images[batch]), targets[batch]).backward()
                optimizer.step()
    yield Trained(model.eval(), find_groups(model, SIZE), images, targets)
    torch.set_num_threads(threads)


Scoring = Callable[[nn.Module, list[StructureGroup]], StructureScores]


def loss(model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> float:
    with torch.no_grad():
        losses = [(F.cross_entropy(model.eval()(x), y, reduction="sum").item(), len(y)) for x, y in batches]
    return sum(value for value, _ in losses) / sum(count for _, count in losses)


def prune(
    of: Trained,
    criterion: str,
    update: str,
    rounds: int = 1,
    keep: float = 0.3,
    seen: list[tuple[nn.Module, StructureScores]] | None = None,
) -> tuple[nn.Module, list[Round]]:
    """Go down at uniform widths; keep in ``seen`` what each round started from."""

    def score(model: nn.Module, groups: list[StructureGroup]) -> StructureScores:
        scores = score_structures(model, groups, of.calibration(), criterion, seed=1)
        if seen is not None:
            seen.append((copy.deepcopy(model), scores))
        return scores

    model = copy.deepcopy(of.model)
    steps = Steps(make_allocation("uniform"), make_update(update), rounds, Floors())
    _, records = prune_to_level(
        model, of.groups, Plan(), score=score, steps=steps, images=of.calibration, keep=keep, input_size=SIZE
    )
    return model, records


def test_least_squares_helps_whoever_goes_and_reconstruction_most(trained: Trained) -> None:
    """On images that neither training nor calibration has seen."""
    dense = loss(trained.model, trained.batches(1200, 1797))
    assert dense < 0.3
    found = {
        (criterion, update): loss(prune(trained, criterion, update)[0], trained.batches(1200, 1797))
        for criterion in ("random", "magnitude", "reconstruction")
        for update in ("none", "norm", "least-squares")
    }
    for criterion in ("random", "magnitude", "reconstruction"):
        assert found[criterion, "norm"] < found[criterion, "none"]
        assert found[criterion, "least-squares"] < 0.8 * found[criterion, "norm"]
    assert min(found, key=lambda key: found[key]) == ("reconstruction", "least-squares")


@pytest.mark.parametrize("update", ["least-squares", "mask-space"])
def test_rounds_record_the_losses_on_the_calibration_images(trained: Trained, update: str) -> None:
    """Each round starts with the net that the one before left, adjusted."""
    seen: list[tuple[nn.Module, StructureScores]] = []
    model, records = prune(trained, "oba-joint", update, rounds=2, seen=seen)
    nets = [net for net, _ in seen] + [model]
    losses = [loss(net, trained.calibration()) for net in nets]
    assert [r.loss_before for r in records] == pytest.approx(losses[:-1], rel=1e-5)
    assert [r.loss_after for r in records] == pytest.approx(losses[1:], rel=1e-5)
    assert losses[0] < losses[1] < losses[2]


def test_rounds_record_what_the_scores_predicted(trained: Trained) -> None:
    """The sum of what went, alone and in pairs; near the truth where little goes and nothing is adjusted."""
    _, (first,) = prune(trained, "oba-joint", "none", keep=0.97)
    assert first.predicted is not None
    assert first.loss_before is not None
    assert first.loss_after is not None
    assert first.removed > 1
    assert first.predicted == pytest.approx(first.loss_after - first.loss_before, rel=0.5, abs=0.002)
    assert all(r.predicted is None for r in prune(trained, "magnitude", "none")[1])

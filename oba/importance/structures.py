r"""Scores of structures: sums over slices, joined over batches, then over the coupled layers.

For a structure with slices s in its coupled layers, batches b of n_b examples and signed sums S_b,s of the criterion's
scores over slice s, the reductions over batches are

.. math:: \text{abs-of-mean (the paper's): } \Big|\frac{\sum_b n_b S_{b,s}}{\sum_b n_b}\Big|, \quad
          \text{mean-of-abs: } \frac{\sum_b n_b |S_{b,s}|}{\sum_b n_b}, \quad
          \text{rms: } \sqrt{\frac{\sum_b n_b S_{b,s}^2}{\sum_b n_b}},

and the score is the mean (the paper's) or the sum over s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oba.curvature import parameter_layers
from oba.errors import ConfigError, ScoreError
from oba.importance.batches import Batch, Loss, numbered
from oba.importance.criterion import Criterion, Options, Target, load_criterion
from oba.importance.scale_free import scale_free_layers
from oba.importance.slices import channels_of, groups_of, layer_slices
from oba.importance.state import left_as_found
from oba.structures import IN, OUT, StructureGroup

OVER_BATCHES = ("abs-of-mean", "mean-of-abs", "rms")
"""How a structure's signed sums are joined over batches."""
OVER_LAYERS = ("mean", "sum")
"""How a structure's scores are joined over its coupled layers."""


def structure_scores(
    model: nn.Module,
    groups: Sequence[StructureGroup],
    batches: Iterable[tuple[Tensor, Any]],
    criterion: str,
    *,
    loss: Loss = F.cross_entropy,
    norm: str = "eval",
    order: int = 2,
    magnitude: str = "l1",
    over_batches: str = "abs-of-mean",
    over_layers: str = "mean",
    seed: int = 0,
) -> dict[str, Tensor]:
    """Score the structures of every group.

    Slices of norm layers carry no score. Output slices of layers that :func:`scale_free_layers` finds are left out for
    the criteria whose sums vanish there, and so are input slices that are whole filters (depthwise convolutions).

    Args:
        model: The model; it is left as it was found.
        groups: Groups of structures.
        batches: Pairs of inputs (N, ...) and targets, consumed one by one; not touched without need of data.
        criterion: Registered name, for example ``"oba"``.
        loss: Maps outputs and targets to the mean loss over the batch.
        norm: Statistics of batch and instance norms: ``"eval"`` (frozen) or ``"train"`` (of the batch).
        order: Order of ``oba-exact``.
        magnitude: ``"l1"`` or ``"l2"`` for ``magnitude``.
        over_batches: ``"abs-of-mean"``, ``"mean-of-abs"`` or ``"rms"``.
        over_layers: ``"mean"`` or ``"sum"``.
        seed: Seed of ``random``.

    Returns:
        For each group's name its scores, shape (structures,), float64, on the CPU.

    Raises:
        ConfigError: If a reduction is unknown.
        ScoreError: If there is nothing to score or to score on, or the scores are not finite.
    """
    _check("over_batches", over_batches, OVER_BATCHES)
    _check("over_layers", over_layers, OVER_LAYERS)
    scorer = load_criterion(criterion, Options(order, magnitude, seed))
    targets: list[Target] = []
    totals: dict[str, Tensor] = {}
    examples = 0
    with left_as_found(model, norm):
        for batch in numbered(batches, loss) if scorer.needs_data else [None]:
            targets = targets or _targets(model, groups, scorer, batch)
            count = 1 if batch is None else batch.examples
            examples += count
            for name, rows in scorer.structure_scores(model, targets, batch).items():
                total = totals.setdefault(name, torch.zeros_like(rows, dtype=torch.float64))
                total.add_(_PER_BATCH[over_batches](rows.double()), alpha=count)
    scores = {}
    for name, total in totals.items():
        rows = _OVER_ALL[over_batches](total / examples)
        scores[name] = (rows.mean(0) if over_layers == "mean" else rows.sum(0)).cpu()
        if not scores[name].isfinite().all():
            raise ScoreError(f"criterion {criterion!r}: the scores of group {name!r} are not finite")
    return scores


_PER_BATCH = {"abs-of-mean": torch.clone, "mean-of-abs": torch.abs, "rms": torch.square}
_OVER_ALL = {"abs-of-mean": torch.abs, "mean-of-abs": torch.clone, "rms": torch.sqrt}


def _check(key: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}: {value!r} is unknown; allowed: {', '.join(allowed)}")


def _targets(
    model: nn.Module, groups: Sequence[StructureGroup], scorer: Criterion, batch: Batch | None
) -> list[Target]:
    """Pick the slices of each group whose sums mean something for the criterion."""
    free: set[str] = set()
    if scorer.ignores_scale and batch is not None:
        free = scale_free_layers(model, batch.inputs[:2])
    layers = parameter_layers(model)

    def vanishes(layer: str, axis: str) -> bool:
        # With one input per group, all weights behind an input are whole filters.
        whole = axis == IN and channels_of(layers[layer], IN) == groups_of(layers[layer])
        return layer in free and (axis == OUT or whole)

    return [Target(group, [s for s in layer_slices(model, group) if not vanishes(s.layer, s.axis)]) for group in groups]

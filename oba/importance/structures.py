r"""Scores of structures: sums over slices, joined over batches, then over the coupled layers.

For a structure with slices s in its coupled layers, batches b of n_b examples and signed sums S_b,s of the criterion's
scores over slice s, the reductions over batches are

.. math:: \text{abs-of-mean (the paper's): } \Big|\frac{\sum_b n_b S_{b,s}}{\sum_b n_b}\Big|, \quad
          \text{mean-of-abs: } \frac{\sum_b n_b |S_{b,s}|}{\sum_b n_b}, \quad
          \text{rms: } \sqrt{\frac{\sum_b n_b S_{b,s}^2}{\sum_b n_b}},

and the score is the mean (the paper's) or the sum over s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oba.curvature import parameter_layers
from oba.errors import ConfigError, ScoreError
from oba.importance.batches import Batch, Loss, numbered
from oba.importance.criterion import Criterion, Options, Target, load_criterion
from oba.importance.model import StructureModel
from oba.importance.scale_free import scale_free_layers
from oba.importance.slices import channels_of, groups_of, layer_slices
from oba.importance.state import left_as_found
from oba.structures import IN, OUT, StructureGroup

OVER_BATCHES = ("abs-of-mean", "mean-of-abs", "rms")
"""How a structure's signed sums are joined over batches."""
OVER_LAYERS = ("mean", "sum")
"""How a structure's scores are joined over its coupled layers."""


class Settings(TypedDict, total=False):
    """Settings of :func:`structure_model`, all optional."""

    loss: Loss
    norm: str
    order: int
    magnitude: str
    hessian: str
    samples: int
    over_batches: str
    over_layers: str
    seed: int


def structure_scores(
    model: nn.Module,
    groups: Sequence[StructureGroup],
    batches: Iterable[tuple[Tensor, Any]],
    criterion: str,
    **settings: Unpack[Settings],
) -> dict[str, Tensor]:
    """Score the structures of every group: the part of :func:`structure_model` that every criterion has.

    Args:
        model: The model; it is left as it was found.
        groups: Groups of structures.
        batches: Pairs of inputs (N, ...) and targets, consumed one by one; not touched without need of data.
        criterion: Registered name, for example ``"oba"``.
        **settings: As for :func:`structure_model`.

    Returns:
        For each group's name its scores, shape (structures,), float64, on the CPU.

    Example:
        The three hidden neurons of a small net; each owns a row of one layer and a column of the next.

        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> batches = [(torch.randn(8, 4), torch.randint(2, (8,)))]
        >>> neurons = ((0,), (1,), (2,))
        >>> group = StructureGroup("0", (Slice("0", "out", neurons), Slice("2", "in", neurons)))
        >>> scores = structure_scores(model, [group], batches, "oba-joint")
        >>> {name: tuple(score.shape) for name, score in scores.items()}
        {'0': (3,)}
    """
    return dict(structure_model(model, groups, batches, criterion, **settings).alone)


def structure_model(
    model: nn.Module,
    groups: Sequence[StructureGroup],
    batches: Iterable[tuple[Tensor, Any]],
    criterion: str,
    *,
    loss: Loss = F.cross_entropy,
    norm: str = "eval",
    order: int = 2,
    magnitude: str = "l1",
    hessian: str = "auto",
    samples: int = 16,
    over_batches: str = "abs-of-mean",
    over_layers: str = "mean",
    seed: int = 0,
) -> StructureModel:
    """Score the structures of every group, and say how they interact where the criterion knows.

    Slices of norm layers carry no score, but for ``bn-scale``. Output slices of layers that :func:`scale_free_layers`
    finds are left out for the criteria whose sums vanish there, and so are input slices that are whole filters
    (depthwise convolutions). Criteria that predict the change of the loss (``oba-diag``, ``oba-joint``) score
    structures as such: their scores are signed, and the mean over batches, whatever the reductions say.

    Args:
        model: The model; it is left as it was found.
        groups: Groups of structures.
        batches: Pairs of inputs (N, ...) and targets, consumed one by one; not touched without need of data.
        criterion: Registered name, for example ``"oba"``.
        loss: Maps outputs and targets to the mean loss over the batch.
        norm: Statistics of batch and instance norms: ``"eval"`` (frozen) or ``"train"`` (of the batch).
        order: Order of ``oba-exact``.
        magnitude: ``"l1"`` or ``"l2"`` for ``magnitude``.
        hessian: For ``oba-diag`` and ``oba-joint``: ``"exact"``, ``"gauss-newton"``, ``"probes"`` (``oba-diag`` alone)
            or ``"auto"``.
        samples: Number of probes, or of classes that Gauss–Newton draws for an example where there are more.
        over_batches: ``"abs-of-mean"``, ``"mean-of-abs"`` or ``"rms"``.
        over_layers: ``"mean"`` or ``"sum"``.
        seed: Seed of all that is drawn.

    Returns:
        Scores, and interactions or None.

    Raises:
        ConfigError: If a setting is unknown.
        ScoreError: If there is nothing to score or to score on, or the scores are not finite.
    """
    _check("over_batches", over_batches, OVER_BATCHES)
    _check("over_layers", over_layers, OVER_LAYERS)
    if not groups:
        raise ScoreError(f"criterion {criterion!r}: there are no structures to score")
    scorer = load_criterion(criterion, Options(order, magnitude, hessian, samples, seed))
    reduce = "mean" if scorer.in_nats else over_batches
    targets: list[Target] = []
    rows, variances, interactions = _Mean(), _Mean(), _Mean()
    with left_as_found(model, norm):
        for batch in numbered(batches, loss) if scorer.needs_data else [None]:
            targets = targets or targets_of(model, groups, scorer, batch)
            count = 1 if batch is None else batch.examples
            found = scorer.structure_model(model, targets, batch)
            rows.add({name: _PER_BATCH[reduce](r.double()) for name, r in found.rows.items()}, count)
            if found.interactions is not None:
                interactions.add({"": found.interactions}, count)
            if found.variance is not None:
                # A variance of a mean: weights enter squared.
                variances.add({name: v * count for name, v in found.variance.items()}, count)
    scores = {}
    for name, mean in rows.means().items():
        joined = _OVER_ALL[reduce](mean)
        scores[name] = (joined.sum(0) if over_layers == "sum" else joined.mean(0)).cpu()
        if not scores[name].isfinite().all():
            raise ScoreError(f"criterion {criterion!r}: the scores of group {name!r} are not finite")
    errors = {name: (v / rows.weight).sqrt().squeeze(0).cpu() for name, v in variances.means().items()}
    matrix = interactions.means().get("")
    return StructureModel(scores, None if matrix is None else matrix.cpu(), scorer.in_nats, errors or None)


class _Mean:
    """Weighted means of tensors by name, added up online in float64 on the tensors' device."""

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}
        self.weight = 0

    def add(self, tensors: Mapping[str, Tensor], weight: int) -> None:
        self.weight += weight
        for name, tensor in tensors.items():
            total = self._totals.setdefault(name, torch.zeros_like(tensor, dtype=torch.float64))
            total.add_(tensor, alpha=weight)

    def means(self) -> dict[str, Tensor]:
        return {name: total / self.weight for name, total in self._totals.items()}


_PER_BATCH = {"mean": torch.clone, "abs-of-mean": torch.clone, "mean-of-abs": torch.abs, "rms": torch.square}
_OVER_ALL = {"mean": torch.clone, "abs-of-mean": torch.abs, "mean-of-abs": torch.clone, "rms": torch.sqrt}


def _check(key: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}: {value!r} is unknown; allowed: {', '.join(allowed)}")


def targets_of(
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

r"""From the scores of batches to one score for every structure: joined over batches, then over coupled layers.

For a structure with slices s in its coupled layers, batches b of n_b examples and signed sums S_b,s of the criterion's
scores over slice s, the reductions over batches are

.. math:: \text{abs-of-mean (the paper's): } \Big|\frac{\sum_b n_b S_{b,s}}{\sum_b n_b}\Big|, \quad
          \text{mean-of-abs: } \frac{\sum_b n_b |S_{b,s}|}{\sum_b n_b}, \quad
          \text{rms: } \sqrt{\frac{\sum_b n_b S_{b,s}^2}{\sum_b n_b}},

the score is the mean (the paper's) or the sum over s, and each group's scores are divided by their normaliser.
Scores that predict the change of the loss are joined by their mean, signed, and never normalised.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from oba.curvature import parameter_layers
from oba.errors import ScoreError
from oba.importance.batches import Batch
from oba.importance.criterion import Criterion, Target
from oba.importance.means import Means
from oba.importance.scale_free import scale_free_layers
from oba.importance.scores import StructureScores
from oba.importance.slices import channels_of, groups_of, layer_slices
from oba.structures import IN, OUT, StructureGroup


def joined(
    criterion: Criterion, model: nn.Module, groups: Sequence[StructureGroup], batches: Iterable[Batch | None]
) -> StructureScores:
    """Join a criterion's scores over batches and slices, as its options say.

    Output slices of layers that :func:`scale_free_layers` finds are left out for criteria whose sums vanish there, and
    so are input slices that are whole filters (depthwise convolutions).

    Args:
        criterion: Scores single batches.
        model: The model, in the mode for scoring.
        groups: Groups of structures.
        batches: The examples, consumed one by one; one None for a criterion that needs none.

    Returns:
        Scores, and interactions and standard errors where the criterion has them.

    Raises:
        ScoreError: If scores are not finite.
    """
    over_batches = getattr(criterion.options, "over_batches", "mean")
    over_layers = getattr(criterion.options, "over_layers", "mean")
    normalizer = getattr(criterion.options, "normalizer", "none")
    targets: list[Target] = []
    rows, variances, interactions = Means(), Means(), Means()
    for batch in batches:
        targets = targets or targets_of(model, groups, criterion, batch)
        count = 1 if batch is None else batch.examples
        found = criterion.batch_scores(model, targets, batch)
        rows.add(((name, PER_BATCH[over_batches](r.double())) for name, r in found.rows.items()), count)
        if found.interactions is not None:
            interactions.add([("", found.interactions)], count)
        if found.variance is not None:
            # A variance of a mean: weights enter squared.
            variances.add(((name, v * count) for name, v in found.variance.items()), count)
    scores = {}
    for name, mean in rows.means():
        reduced = OVER_ALL[over_batches](mean)
        total = (reduced.sum(0) if over_layers == "sum" else reduced.mean(0)).cpu()
        if not total.isfinite().all():
            raise ScoreError(f"criterion {criterion.name!r}: the scores of group {name!r} are not finite")
        scores[name] = _normalized(total, normalizer)
    errors = {name: (v / rows.weight).sqrt().squeeze(0).cpu() for name, v in variances.means()}
    matrix = dict(interactions.means()).get("")
    return StructureScores(scores, None if matrix is None else matrix.cpu(), criterion.in_nats, errors or None)


PER_BATCH = {"mean": torch.clone, "abs-of-mean": torch.clone, "mean-of-abs": torch.abs, "rms": torch.square}
"""What enters the mean over batches, by the option ``over_batches``."""
OVER_ALL = {"mean": torch.clone, "abs-of-mean": torch.abs, "mean-of-abs": torch.clone, "rms": torch.sqrt}
"""What is made of that mean."""


def _normalized(scores: Tensor, normalizer: str) -> Tensor:
    """Divide a group's scores by their normaliser; scores that are all zero stay zero."""
    size = scores.abs()
    match normalizer:
        case "max":
            by = size.max()
        case "mean":
            by = size.mean()
        case "sum":
            by = size.sum()
        case "l2":
            by = torch.linalg.vector_norm(scores)
        case _:
            return scores
    return scores / by if by > 0 else scores


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

r"""Scores of single weights: a criterion's signed scores of parameters, joined over batches.

.. math:: \text{abs-of-mean: } \Big|\frac{\sum_b n_b s_{b,i}}{\sum_b n_b}\Big|, \quad
          \text{mean-of-abs: } \frac{\sum_b n_b |s_{b,i}|}{\sum_b n_b}, \quad
          \text{rms: } \sqrt{\frac{\sum_b n_b s_{b,i}^2}{\sum_b n_b}}

with the score :math:`s_{b,i}` of weight i on batch b of :math:`n_b` examples. The lowest go first, whatever their sign
was. With ``add_magnitude`` the score is :math:`s_i / \max_j s_j + |\theta_i|`, the largest being that of all weights.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from oba import ranks
from oba.curvature.squared_gradients import matrix_weights
from oba.errors import ScoreError
from oba.importance.batches import Loss, numbered
from oba.importance.criterion import Criterion
from oba.importance.joining import OVER_ALL, PER_BATCH
from oba.importance.means import Means
from oba.importance.state import left_as_found


def weight_scores(
    model: nn.Module,
    names: Collection[str],
    batches: Iterable[tuple[Tensor, Any]],
    criterion: Criterion,
    *,
    loss: Loss = F.cross_entropy,
) -> dict[str, Tensor]:
    """Score single weights.

    Beside what the criterion takes for a batch, a sum in float64 is in memory for every weight.

    Args:
        model: The model; it is left as it was found.
        names: Names of the weights, as in ``named_parameters()``.
        batches: Pairs of inputs (N, ...) and targets, consumed one by one; not touched without need of data.
        criterion: A criterion that scores parameters.
        loss: Maps outputs and targets to the mean loss over the batch.

    Returns:
        Scores in the weights' shapes, float32, none negative, on their devices.

    Raises:
        ScoreError: If a weight has no score, or scores are not finite.
    """
    over_batches = getattr(criterion.options, "over_batches", "mean")
    totals = Means()
    with left_as_found(model, criterion.norm):
        for batch in numbered(batches, loss) if criterion.needs_data else ranks.own([None]):
            found = criterion.parameter_scores(model, batch)
            if lacking := next((name for name in names if name not in found), None):
                raise ScoreError(
                    f"criterion {criterion.name!r} has no score for weight {lacking!r}; allowed: another criterion, or "
                    "structures.ignore with its layer"
                )
            joined = ((name, PER_BATCH[over_batches](found.pop(name).double())) for name in names)
            totals.add(joined, 1 if batch is None else batch.examples)
    scores = {}
    for name, mean in totals.means():
        scores[name] = OVER_ALL[over_batches](mean).abs().float()
        if not scores[name].isfinite().all():
            raise ScoreError(f"criterion {criterion.name!r}: the scores of weight {name!r} are not finite")
    if getattr(criterion.options, "add_magnitude", False):
        highest = max(float(score.max()) for score in scores.values())
        for name, score in scores.items():
            score.div_(highest or 1.0).add_(model.get_parameter(name).detach().abs())
    return scores


def require_matrix_weights(criterion: str, model: nn.Module, names: Collection[str]) -> None:
    """Refuse weights whose gradients on single examples cannot be seen.

    Args:
        criterion: Name of the criterion that squares them.
        model: The model.
        names: Names of the weights to be scored.

    Raises:
        ScoreError: If a weight is used in other ways than by a Conv or Linear layer.
    """
    if others := sorted({*names} - matrix_weights(model)):
        raise ScoreError(
            f"weight {others[0]!r}: criterion {criterion!r} scores weights of Conv and Linear layers only; allowed: "
            "another criterion, or structures.ignore with its layer"
        )

"""Scores of parameters: the mean of a criterion's signed scores over batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from oba import ranks
from oba.errors import ScoreError
from oba.importance.batches import Loss, numbered
from oba.importance.criterion import make_criterion
from oba.importance.means import Means
from oba.importance.state import left_as_found


def parameter_scores(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Any]],
    criterion: str,
    *,
    loss: Loss = F.cross_entropy,
    seed: int = 0,
    **options: Any,
) -> dict[str, Tensor]:
    r"""Score every parameter element.

    .. math:: s_i = \frac{\sum_b n_b\, s_{b,i}}{\sum_b n_b}

    with the criterion's signed score :math:`s_{b,i}` on batch b of :math:`n_b` examples; the criteria and their
    equations are in ``docs/method.md``. With a mean loss and frozen norm statistics, ``taylor`` is then the same
    however the examples are divided into batches. The same holds for ``oba-exact`` and ``oba``, whose curvature is also
    a mean over examples; not so for ``norm="train"``, where the examples of a batch depend on each other.

    Args:
        model: The model; it is left as it was found.
        batches: Pairs of inputs (N, ...) and targets; not touched by a criterion that needs no data.
        criterion: Registered name, for example ``"oba"``.
        loss: Maps outputs and targets to the mean loss over the batch.
        seed: Seed of all that is drawn.
        **options: The criterion's own options, such as ``norm="train"``; each criterion's file declares them.

    Returns:
        Signed scores keyed like ``named_parameters()``, in each parameter's shape, type and device; parameters without
        a score are absent.

    Raises:
        ScoreError: If there is nothing to score or to score on, or the scores are not finite.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> batches = [(torch.randn(8, 4), torch.randint(2, (8,)))]
        >>> scores = parameter_scores(model, batches, "oba")
        >>> {name: tuple(score.shape) for name, score in scores.items()}
        {'0.weight': (3, 4), '0.bias': (3,), '2.weight': (2, 3), '2.bias': (2,)}
    """
    scorer = make_criterion(criterion, seed, **options)
    totals = Means()
    with left_as_found(model, scorer.norm):
        for batch in numbered(batches, loss) if scorer.needs_data else ranks.own([None]):
            totals.add(scorer.parameter_scores(model, batch).items(), 1 if batch is None else batch.examples)
    parameters = dict(model.named_parameters())
    scores = {name: mean.to(parameters[name].dtype) for name, mean in totals.means()}
    if not scores:
        raise ScoreError(f"criterion {criterion!r}: the model has no parameter that it scores")
    for name, score in scores.items():
        if not score.isfinite().all():
            raise ScoreError(f"criterion {criterion!r}: the scores of {name!r} are not finite")
    return scores

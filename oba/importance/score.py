"""Scores of structures, by any criterion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from oba import ranks
from oba.errors import ScoreError
from oba.importance.batches import Loss, numbered
from oba.importance.criterion import Criterion, make_criterion
from oba.importance.scores import StructureScores
from oba.importance.state import left_as_found
from oba.structures import StructureGroup


def score_structures(
    model: nn.Module,
    groups: Sequence[StructureGroup],
    batches: Iterable[tuple[Tensor, Any]],
    criterion: str | Criterion,
    *,
    loss: Loss = F.cross_entropy,
    seed: int = 0,
    **options: Any,
) -> StructureScores:
    """Score the structures of every group, and say how they interact where the criterion knows.

    Args:
        model: The model; it is left as it was found.
        groups: Groups of structures, as :func:`oba.find_groups` returns them.
        batches: Pairs of inputs (N, ...) and targets, consumed one by one; not touched without need of data.
        criterion: Registered name, for example ``"oba"``, or a criterion that was made before.
        loss: Maps outputs and targets to the mean loss over the batch.
        seed: Seed of all that is drawn.
        **options: The criterion's own options, such as ``norm="train"``; each criterion's file declares them.

    Returns:
        Scores, comparable between groups; interactions, standard errors and error curves where the criterion has them.

    Raises:
        ScoreError: If there is nothing to score or to score on, or the scores are not finite.

    Example:
        The three hidden neurons of a small net; each owns a row of one layer and a column of the next.

        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> batches = [(torch.randn(8, 4), torch.randint(2, (8,)))]
        >>> neurons = ((0,), (1,), (2,))
        >>> group = StructureGroup("0", (Slice("0", "out", neurons), Slice("2", "in", neurons)))
        >>> scores = score_structures(model, [group], batches, "oba-joint")
        >>> scores.alone["0"].shape, scores.interactions.shape
        (torch.Size([3]), torch.Size([3, 3]))
    """
    scorer = make_criterion(criterion, seed, **options) if isinstance(criterion, str) else criterion
    if not groups:
        raise ScoreError(f"criterion {scorer.name!r}: there are no structures to score")
    with left_as_found(model, scorer.norm):
        return scorer.score(model, groups, numbered(batches, loss) if scorer.needs_data else ranks.own([None]))

"""Levels: from the current net down to one level of ``keep``, in rounds of scoring and pruning."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from oba.config import PruningConfig
from oba.importance.model import StructureModel
from oba.pruning.cost import CostModel
from oba.pruning.plan import Plan, kept_counts, restrict
from oba.pruning.prices import Normalizer, Prices
from oba.pruning.replay import apply_plan, removal_plan
from oba.pruning.select import require_reachable, select
from oba.structures import StructureGroup

Score = Callable[[nn.Module, list[StructureGroup]], StructureModel]
"""Scores the structures of a net."""


@dataclass(frozen=True)
class RoundRecord:
    """One round of scoring and pruning.

    Attributes:
        keep: The round's target, as a fraction of the dense MACs.
        macs_kept: What was reached.
        removed: Number of structures that went in this round.
        scoring_seconds: Wall-clock time of scoring.
        predicted: By how much the loss changes, in nats, according to the scores; None if they do not predict it.
    """

    keep: float
    macs_kept: float
    removed: int
    scoring_seconds: float
    predicted: float | None


def prune_to_level(
    model: nn.Module,
    groups: Sequence[StructureGroup],
    plan: Plan,
    *,
    score: Score,
    keep: float,
    pruning: PruningConfig,
    normalizer: Normalizer,
    input_size: tuple[int, int, int],
) -> tuple[Plan, list[RoundRecord]]:
    """Prune a net in place down to a level; each round scores anew what the last one left.

    The rounds' targets lie evenly between what the net keeps now and the level. A level that the floors
    do not allow is refused (``BudgetError``) before anything is scored.

    Args:
        model: The net that ``plan`` leaves of the dense one; cut in place.
        groups: Groups of the dense net.
        plan: What is left of the dense net now.
        score: Called once per round with the net as it is and the groups in its coordinates.
        keep: Fraction of the dense net's MACs to keep.
        pruning: Rounds, rank and floors; floors count from the dense net.
        normalizer: What a group's scores are divided by, unless they are in nats.
        input_size: Channels, height and width of an image.

    Returns:
        The new plan, in the dense net's coordinates, and a record of each round.
    """
    cost = CostModel.of(model, input_size)
    dense_macs = cost.dense_macs(plan)
    dense_counts = {g.name: len(g) for g in groups}
    start = cost.macs / dense_macs
    current, _ = restrict(groups, plan)
    require_reachable(current, cost, keep=keep, floors=pruning, dense_counts=dense_counts, dense_macs=dense_macs)
    records = []
    for number in range(1, pruning.rounds + 1):
        target = start + (keep - start) * number / pruning.rounds
        began = time.perf_counter()
        scored = score(model, current)
        seconds = time.perf_counter() - began
        selection = select(
            current,
            Prices(current, scored, normalizer),
            cost,
            keep=target,
            pruning=pruning,
            dense_counts=dense_counts,
            dense_macs=dense_macs,
        )
        step = removal_plan(model, current, selection.removed)
        apply_plan(model, step)
        plan = plan.then(step)
        for group in current:
            cost.remove(group, len(selection.removed.get(group.name, ())))
        current, _ = restrict(groups, plan)
        removed = sum(map(len, selection.removed.values()))
        predicted = scored.change(selection.removed) if scored.in_nats else None
        records.append(RoundRecord(target, selection.macs / dense_macs, removed, seconds, predicted))
    return plan, records


def channel_warnings(groups: Sequence[StructureGroup], plan: Plan, *, below: float = 0.1) -> list[str]:
    """Name the layers that are cut nearly through.

    Args:
        groups: Groups of the dense net.
        plan: What is left of it.
        below: Fraction of a layer's channels under which it is named.

    Returns:
        One line per layer that keeps fewer, or a single structure.
    """
    counts = kept_counts(groups, plan)
    return [
        f"layer {g.name!r} keeps {kept * g.width} of {dense * g.width} channels"
        for g in groups
        for kept, dense in (counts[g.name],)
        if kept < dense and (kept == 1 or kept < below * dense)
    ]

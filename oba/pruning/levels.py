"""Levels: from the current net down to one level of ``keep``, in rounds of scoring, cutting and adjusting."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from oba import ranks
from oba.config import Floors
from oba.importance.scores import StructureScores
from oba.pruning.cost import CostModel
from oba.pruning.cut import Cut, Images, Update
from oba.pruning.descent import DESCENTS
from oba.pruning.plan import Plan, kept_counts, restrict
from oba.pruning.problem import Allocation, Problem, require_reachable
from oba.pruning.replay import apply_plan, removal_plan
from oba.pruning.statistics import mean_loss
from oba.records import Round
from oba.structures import HEAD, StructureGroup

Score = Callable[[nn.Module, list[StructureGroup]], StructureScores]
"""Scores the structures of a net."""


@dataclass(frozen=True)
class Steps:
    """How a method goes down to a level, besides scoring.

    Attributes:
        allocation: How much goes where.
        update: How the survivors adjust.
        rounds: Times that structures are scored again on the way.
        floors: How little a layer may keep.
        descent: How the rounds step down.
    """

    allocation: Allocation
    update: Update
    rounds: int
    floors: Floors
    descent: str = "linear"


def prune_to_level(
    model: nn.Module,
    groups: Sequence[StructureGroup],
    plan: Plan,
    *,
    score: Score,
    steps: Steps,
    images: Images,
    keep: float,
    input_size: tuple[int, int, int],
    widths: Mapping[str, int] | None = None,
) -> tuple[Plan, list[Round]]:
    """Prune a net in place down to a level; each round scores again what the last one left.

    A level that the floors do not allow is refused (``BudgetError``) before anything is scored.

    Args:
        model: The net that ``plan`` leaves of the dense one; cut and adjusted in place.
        groups: Groups of the dense net.
        plan: What is left of the dense net now.
        score: Called once per round with the net as it is and the groups in its coordinates.
        steps: Allocation, update, rounds and floors; floors count from the dense net.
        images: The calibration images.
        keep: Fraction of the dense net's MACs to keep.
        input_size: Channels, height and width of an image.
        widths: Numbers of structures that another net of this level keeps, by group, for allocations that copy them.

    Returns:
        The new plan, in the dense net's coordinates, and a record of each round.
    """
    cost = CostModel.of(model, input_size)
    dense_macs = cost.dense_macs(plan)
    dense_counts = {g.name: len(g) for g in groups}
    start = cost.macs / dense_macs
    current, _ = restrict(groups, plan)
    require_reachable(current, cost, keep=keep, floors=steps.floors, dense_counts=dense_counts, dense_macs=dense_macs)
    records: list[Round] = []
    loss = mean_loss(model, images)
    for number in range(1, steps.rounds + 1):
        progress = number / steps.rounds
        began = time.perf_counter()
        scores = score(model, current)
        seconds = time.perf_counter() - began
        problem = Problem(
            current,
            scores,
            cost,
            keep=DESCENTS[steps.descent](start, keep, progress),
            floors=steps.floors,
            dense_counts=dense_counts,
            dense_macs=dense_macs,
            progress=progress,
            widths=widths or {},
        )
        selection = ranks.broadcast(steps.allocation.select(problem))
        step = removal_plan(model, current, selection.removed)
        before = copy.deepcopy(model)
        apply_plan(model, step)
        steps.update.adjust(Cut(before, model, current, selection.removed, step), images)
        ranks.broadcast_tensors(model.state_dict().values())
        plan = plan.then(step)
        for group in current:
            cost.remove(group, len(selection.removed.get(group.name, ())))
        cost = cost.settled()
        current, _ = restrict(groups, plan)
        previous, loss = loss, mean_loss(model, images)
        records.append(
            Round(
                keep=problem.keep,
                macs_kept=selection.macs / dense_macs,
                removed=sum(map(len, selection.removed.values())),
                kept={group.name: len(group) for group in current},
                scoring_seconds=seconds,
                predicted=scores.change(selection.removed) if scores.in_nats else None,
                loss_before=previous,
                loss_after=loss,
            )
        )
    return plan, records


def channel_warnings(groups: Sequence[StructureGroup], plan: Plan, *, below: float = 0.1) -> list[str]:
    """Name the layers that are cut nearly through.

    Args:
        groups: Groups of the dense net.
        plan: What is left of it.
        below: Fraction of a layer's channels under which it is named.

    Returns:
        One line per layer that keeps fewer, or a single structure; not where one of two or three heads is left.
    """
    counts = kept_counts(groups, plan)
    return [
        f"layer {g.name!r} keeps {kept * g.width} of {dense * g.width} channels"
        for g in groups
        for kept, dense in (counts[g.name],)
        if kept < dense and (kept < below * dense or (kept == 1 and not (g.kind == HEAD and dense <= 3)))
    ]

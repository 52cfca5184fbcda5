"""Levels: from the current net down to one level of ``keep``, in rounds of scoring, cutting and adjusting."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from oba import ranks
from oba.config import Floors
from oba.importance.scores import StructureScores
from oba.pruning.cost import CostModel
from oba.pruning.cut import Adjusted, Cut, Images, Update
from oba.pruning.descent import DESCENTS
from oba.pruning.plan import Plan, kept_counts, restrict
from oba.pruning.problem import Allocation, Problem, require_reachable
from oba.pruning.replay import apply_plan, removal_plan
from oba.pruning.rounds import Chosen, Rounds, Step, restore
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
    rounds: Rounds | None = None,
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
        rounds: Where rounds are saved: those that a killed call has done are not done again.

    Returns:
        The new plan, in the dense net's coordinates, and a record of each round.
    """
    level = _Level(model, groups, plan, CostModel.of(model, input_size))
    dense_macs = level.cost.dense_macs(plan)
    dense_counts = {g.name: len(g) for g in groups}
    start = level.cost.macs / dense_macs
    require_reachable(
        level.current, level.cost, keep=keep, floors=steps.floors, dense_counts=dense_counts, dense_macs=dense_macs
    )
    rounds = rounds or Rounds()
    done = rounds.load()
    for step in done.steps:
        level.cut(step)
    restore(model, done.weights)
    loss = done.records[-1].loss_after if done.records else mean_loss(model, images)
    for number in range(len(done.records) + 1, steps.rounds + 1):
        progress = number / steps.rounds
        target = DESCENTS[steps.descent](start, keep, progress)
        if done.chosen is None:
            began = time.perf_counter()
            scores = score(model, level.current)
            seconds = time.perf_counter() - began
            problem = Problem(
                level.current,
                scores,
                level.cost,
                keep=target,
                floors=steps.floors,
                dense_counts=dense_counts,
                dense_macs=dense_macs,
                progress=progress,
                widths=widths or {},
            )
            selection = ranks.broadcast(steps.allocation.select(problem))
            predicted = scores.change(selection.removed) if scores.in_nats else None
            done.chosen = Chosen(selection.removed, selection.macs, predicted, seconds)
            rounds.save(done, model)
        chosen, before, found = done.chosen, copy.deepcopy(model), level.current
        plan = removal_plan(model, found, chosen.removed)
        level.cut(step := Step(plan, {name: len(gone) for name, gone in chosen.removed.items()}))
        restore(model, done.adjusting)
        save = partial(rounds.save, done, before, model)
        steps.update.adjust(Cut(before, model, found, chosen.removed, plan, Adjusted(chosen.adjusted, save)), images)
        ranks.broadcast_tensors(model.state_dict().values())
        previous, loss = loss, mean_loss(model, images)
        done.records.append(
            Round(
                keep=target,
                macs_kept=chosen.macs / dense_macs,
                removed=sum(map(len, chosen.removed.values())),
                kept={group.name: len(group) for group in level.current},
                scoring_seconds=chosen.seconds,
                predicted=chosen.predicted,
                loss_before=previous,
                loss_after=loss,
            )
        )
        done.steps.append(step)
        done.chosen, done.adjusting = None, {}
        rounds.save(done, model)
    return level.plan, done.records


class _Level:
    """A net on its way down: what is left of it, and what that costs."""

    def __init__(self, model: nn.Module, groups: Sequence[StructureGroup], plan: Plan, cost: CostModel) -> None:
        self.plan, self.cost = plan, cost
        self.current, _ = restrict(groups, plan)
        self._model, self._groups = model, groups

    def cut(self, step: Step) -> None:
        """Cut one round's structures out."""
        apply_plan(self._model, step.plan)
        self.plan = self.plan.then(step.plan)
        for group in self.current:
            self.cost.remove(group, step.gone.get(group.name, 0))
        self.cost = self.cost.settled()
        self.current, _ = restrict(self._groups, self.plan)


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

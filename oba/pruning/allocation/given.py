r"""Widths that are given ``given``: by number, or those of another method, so that only who goes differs.

The last round of a level ends exactly at the given widths. The rounds before it lead there evenly: with k_g structures
left of group g and t_g to be kept, each round keeps :math:`t_g + f (k_g - t_g)`, rounded to the group's blocks, with
the largest fraction f that meets the round's budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from oba import registry
from oba.errors import BudgetError, ConfigError
from oba.options import Options
from oba.pruning.greedy import remove_counts
from oba.pruning.problem import TOLERANCE, Allocation, Problem, Selection
from oba.pruning.widths import Widths
from oba.structures import StructureGroup


class GivenOptions(Options):
    """Where the widths come from: exactly one of the two."""

    counts: dict[str, Annotated[int, Field(ge=1)]] | None = None
    """Number of structures that each named group keeps at the end of the level; the others stay whole."""
    method: Annotated[str, Field(min_length=1)] | None = None
    """Another method of the study, which keeps as many of every group at the same level."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.counts is None) == (self.method is None):
            raise ValueError("allowed: exactly one of counts (structures kept, by group) and method (another method)")
        return self


class Given(Allocation[GivenOptions]):
    """Widths of someone else's choice."""

    def require(self, problem: Problem) -> None:
        """Refuse counts that the groups, the floors or the level do not allow."""
        super().require(problem)
        if self.options.counts is not None:
            self.select(problem)

    def select(self, problem: Problem) -> Selection:
        """Remove the cheapest structures of every group down to the widths, or part of the way there."""
        counts = self.options.counts
        targets = _targets(problem, problem.widths if counts is None else counts)
        last = problem.progress >= 1
        # A method that is copied came as close to the budget as its own way of dividing allows.
        _require_budget(problem, _macs(problem, targets), close=last and counts is not None)
        return remove_counts(problem, targets if last else _part_of_the_way(problem, targets))


def _require_budget(problem: Problem, macs: int, *, close: bool) -> None:
    """Refuse widths that miss the budget; ``close``: also those that lie further below it than a level may."""
    if macs <= problem.budget and not (close and macs < problem.budget - TOLERANCE * problem.dense_macs):
        return
    raise BudgetError(
        f"allocation 'given': the widths keep {macs / problem.dense_macs:.4f} of the dense MACs, but "
        f"keep={problem.keep:.4g} was asked for; allowed: at most that, and at a level's end at most {TOLERANCE:g} less"
    )


def _targets(problem: Problem, kept: Mapping[str, int]) -> dict[str, int]:
    """Return how many structures of each group go on the way to given widths, if these are allowed."""
    groups = {group.name: group for group in problem.groups}
    if unknown := sorted(kept.keys() - groups.keys()):
        raise ConfigError(registry.unknown("group", unknown[0], "allocation 'given'", list(groups)))
    return {name: _target(problem, groups[name], count) for name, count in kept.items()}


def _target(problem: Problem, group: StructureGroup, kept: int) -> int:
    """Return how many structures of one group go until ``kept`` are left."""
    allowed = [len(group) - gone for gone in problem.choices(group)]
    if kept not in allowed:
        floor = problem.floor(group)
        raise BudgetError(
            f"allocation 'given': group {group.name!r} cannot keep {kept} of its {len(group)} structures; allowed: "
            f"{len(group)}, or multiples of {floor.step} from {allowed[-1]} on, by the method's floors"
        )
    return len(group) - kept


def _macs(problem: Problem, gone: Mapping[str, int]) -> int:
    """Return the MACs per image that are left without so many structures."""
    cost = problem.cost.copy()
    for group in problem.groups:
        cost.remove(group, gone.get(group.name, 0))
    return cost.macs


def _part_of_the_way(problem: Problem, targets: Mapping[str, int]) -> dict[str, int]:
    """Return how many structures go in a round that is not the last one."""
    widths, ends = Widths(problem), [targets.get(group.name, 0) for group in problem.groups]
    # Blocks beyond a group's end rank below 0: the budget is met before they could go.
    widths.shrink(lambda i, gone: (ends[i] - gone) / max(ends[i], 1))
    return widths.counts()


ALLOCATION = Given

"""How much goes where: the problem that one round poses to an allocation, and the interface of its answer.

A file ``oba/pruning/allocation/my_name.py`` that defines ``ALLOCATION``, a subclass of :class:`Allocation`, adds the
allocation ``my-name``; nothing else has to be changed. Its options are the fields of the class that it is generic in.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from oba.config import Floors
from oba.errors import BudgetError
from oba.importance.scores import StructureScores
from oba.options import Configured, O, checked_options, part
from oba.pruning.cost import CostModel
from oba.pruning.prices import Prices
from oba.pruning.queues import EPSILON, GroupFloor
from oba.structures import StructureGroup

TOLERANCE = 0.02
"""How far below its target a round may end where a better fit exists, as a fraction of the dense MACs."""


@dataclass(frozen=True)
class Selection:
    """What goes.

    Attributes:
        removed: Indices of the removed structures by group, increasing; groups that lose nothing are absent.
        macs: MACs per image of what is left.
    """

    removed: dict[str, tuple[int, ...]]
    macs: int


@dataclass(frozen=True)
class Problem:
    """One round: bring a net down to a fraction of the dense net's MACs.

    Attributes:
        groups: Groups of the net as it is now.
        scores: Scores of their structures.
        cost: The net's cost model; not to be changed (``cost.copy()`` may be).
        keep: Fraction of the dense net's MACs to keep at most.
        floors: What every group keeps at least, and ``round_to``.
        dense_counts: Number of structures of each group in the dense net, from which floors count.
        dense_macs: MACs per image of the dense net.
        progress: The part of the way to the level that this round ends: 1 in the last one.
        widths: Numbers of structures that another net of this level keeps, by group; empty if there is none.
    """

    groups: Sequence[StructureGroup]
    scores: StructureScores
    cost: CostModel
    keep: float
    floors: Floors
    dense_counts: Mapping[str, int]
    dense_macs: int
    progress: float = 1.0
    widths: Mapping[str, int] = field(default_factory=dict)

    @property
    def budget(self) -> int:
        """MACs per image that may be left."""
        return budget_of(self.keep, self.dense_macs)

    def prices(self) -> Prices:
        """Return the structures' prices before anything has gone.

        Returns:
            Prices that nobody else changes.
        """
        return Prices(self.groups, self.scores)

    def floor(self, group: StructureGroup) -> GroupFloor:
        """Return a group's floor.

        Args:
            group: One of the groups.

        Returns:
            How few structures it may keep, and in what steps it shrinks.
        """
        return GroupFloor.of(group, self.dense_counts[group.name], self.floors)

    def choices(self, group: StructureGroup) -> list[int]:
        """Return how many structures of a group may go.

        Args:
            group: One of the groups.

        Returns:
            0, then one block more at a time, down to the floor.
        """
        floor, counts = self.floor(group), [0]
        while block := floor.block(len(group) - counts[-1]):
            counts.append(counts[-1] + block)
        return counts

    def require_reachable(self) -> None:
        """Refuse a budget that the floors do not allow.

        Raises:
            BudgetError: If more than ``keep`` is left when every group is at its floor.
        """
        require_reachable(
            self.groups,
            self.cost,
            keep=self.keep,
            floors=self.floors,
            dense_counts=self.dense_counts,
            dense_macs=self.dense_macs,
        )


class Allocation(Configured[O], ABC):
    """One way to divide what goes among the groups."""

    def require(self, problem: Problem) -> None:
        """Refuse a level that cannot be reached, where that shows without scores.

        Args:
            problem: The level as one round on the dense net; its scores mean nothing.
        """
        problem.require_reachable()

    @abstractmethod
    def select(self, problem: Problem) -> Selection:
        """Choose what goes in one round.

        Args:
            problem: The round; its budget can be reached.

        Returns:
            What goes: at most the budget is left, and no floor is undercut.
        """


def make_allocation(name: str, **options: object) -> Allocation:
    """Return a registered allocation.

    Args:
        name: Its name, with dashes.
        **options: Its own options; those not given have their defaults.

    Returns:
        The allocation.
    """
    entry: Any = part("allocation", name)
    return entry(checked_options(entry, f"allocation {name!r}", options))


def budget_of(keep: float, dense_macs: int) -> int:
    """Return the MACs that a level allows.

    Args:
        keep: Fraction of the dense net's MACs.
        dense_macs: The dense net's MACs per image.

    Returns:
        MACs per image.
    """
    return math.floor(keep * dense_macs + EPSILON)


def require_reachable(
    groups: Sequence[StructureGroup],
    cost: CostModel,
    *,
    keep: float,
    floors: Floors,
    dense_counts: Mapping[str, int],
    dense_macs: int,
) -> None:
    """Refuse a budget that the floors do not allow.

    Args:
        groups: Groups of the net as it is now.
        cost: Its cost model.
        keep: Fraction of the dense net's MACs to keep at most.
        floors: What every group keeps at least, and ``round_to``.
        dense_counts: Number of structures of each group in the dense net.
        dense_macs: MACs per image of the dense net.

    Raises:
        BudgetError: If more than ``keep`` is left when every group is at its floor.
    """
    macs = _lowest_macs(groups, cost, floors, dense_counts)
    if macs > budget_of(keep, dense_macs):
        raise BudgetError(
            f"keep={keep:.4g} cannot be reached: with max_removed={floors.max_removed:g}, "
            f"min_channels={floors.min_channels}, round_to={floors.round_to} over {len(groups)} groups of structures "
            f"the lowest is keep={math.ceil(macs / dense_macs * 1e4) / 1e4:.4f}; choose higher levels of keep, raise "
            "floors.max_removed, lower floors.min_channels or round_to, shorten structures.ignore or set "
            "structures.residual_streams"
        )


def lowest_keep(groups: Sequence[StructureGroup], cost: CostModel, floors: Floors) -> float:
    """Return the fraction of a dense net's MACs that is left when every group is at its floor.

    Args:
        groups: Groups of the dense net.
        cost: Its cost model; left as found.
        floors: What every group keeps at least, and ``round_to``.

    Returns:
        The lowest level of ``keep`` that can be reached.
    """
    return _lowest_macs(groups, cost, floors, {g.name: len(g) for g in groups}) / cost.macs


def _lowest_macs(
    groups: Sequence[StructureGroup], cost: CostModel, floors: Floors, dense_counts: Mapping[str, int]
) -> int:
    """Return the MACs that are left when every group is at its floor."""
    cost = cost.copy()
    for group in groups:
        lowest = GroupFloor.of(group, dense_counts[group.name], floors).lowest
        cost.remove(group, max(len(group) - lowest, 0))
    return cost.macs

"""Global greedy selection: which structures go so that a budget of MACs is met.

Structures go one by one, or in blocks (:mod:`oba.pruning.queues`). Prices (:mod:`oba.pruning.prices`) and savings
(:mod:`oba.pruning.cost`) are those of the net without what has gone before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oba.config import PruningConfig
from oba.errors import BudgetError
from oba.pruning.cost import CostModel
from oba.pruning.prices import Prices
from oba.pruning.queues import EPSILON, Floor, Queue, neighbours
from oba.structures import StructureGroup

TOLERANCE = 0.02
"""How far below the budget a selection may end, as a fraction of the dense MACs."""


@dataclass(frozen=True)
class Selection:
    """What goes.

    Attributes:
        removed: Indices of the removed structures by group, increasing; groups that lose nothing are absent.
        macs: MACs per image of what is left.
    """

    removed: dict[str, tuple[int, ...]]
    macs: int


def select(
    groups: Sequence[StructureGroup],
    prices: Prices,
    cost: CostModel,
    *,
    keep: float,
    pruning: PruningConfig,
    dense_counts: Mapping[str, int],
    dense_macs: int,
) -> Selection:
    """Remove the cheapest structures, over all groups, until the budget of MACs is met.

    Per step one block (with ``round_to`` 1: one structure) goes: by rank ``score`` that with the lowest mean price;
    by ``per-mac`` first those with negative prices, lowest mean first, then that with the lowest price per MAC it
    saves. Equal ones go in the order of the groups. The result lies at or below ``keep`` and within 2 % of the dense
    MACs of it: a block that would end lower is passed over for the next one that does not; if all would, the one that
    saves least goes.

    Args:
        groups: Groups of the net as it is now.
        prices: Prices of its structures; afterwards those of what is left.
        cost: Its cost model; left as found.
        keep: Fraction of the dense net's MACs to keep at most.
        pruning: ``rank``, what every group keeps at least, and ``round_to``.
        dense_counts: Number of structures of each group in the dense net, from which floors count.
        dense_macs: MACs per image of the dense net.

    Returns:
        What goes; nothing if the budget is met already.
    """
    require_reachable(groups, cost, keep=keep, floors=pruning, dense_counts=dense_counts, dense_macs=dense_macs)
    cost = cost.copy()
    budget = _budget(keep, dense_macs)
    lowest = budget - TOLERANCE * dense_macs
    queues = [
        Queue(i, g, Floor.of(g, dense_counts[g.name], pruning), prices, cost, per_mac=pruning.rank == "per-mac")
        for i, g in enumerate(groups)
    ]
    sharing = neighbours(queues)
    removed: dict[str, list[int]] = {}
    while cost.macs > budget:
        queue = _next([q for q in queues if q.block], spare=cost.macs - lowest)
        removed.setdefault(queue.group.name, []).extend(queue.pop())
        for other in queues if prices.interact else [queue]:
            other.reprice()
        for other in sharing[queue.order]:
            other.resize()
    return Selection({name: tuple(sorted(indices)) for name, indices in removed.items()}, cost.macs)


def _next(queues: list[Queue], spare: float) -> Queue:
    """Return the queue whose next block goes: the first by its key that saves no more MACs than can be spared."""
    first = min(queues, key=Queue.key)
    if first.saving <= spare:
        return first
    fitting = [q for q in queues if q.saving <= spare]
    return min(fitting, key=Queue.key) if fitting else min(queues, key=lambda q: (q.saving, q.key()))


def require_reachable(
    groups: Sequence[StructureGroup],
    cost: CostModel,
    *,
    keep: float,
    floors: PruningConfig,
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
    if macs > _budget(keep, dense_macs):
        raise BudgetError(
            f"keep={keep:.4g} cannot be reached: with max_removed={floors.max_removed:g}, "
            f"min_channels={floors.min_channels}, round_to={floors.round_to} over {len(groups)} groups of structures "
            f"the lowest is keep={math.ceil(macs / dense_macs * 1e4) / 1e4:.4f}; choose higher levels of keep, raise "
            "pruning.max_removed, lower pruning.min_channels or round_to, shorten structures.ignore or set "
            "structures.residual_streams"
        )


def lowest_keep(groups: Sequence[StructureGroup], cost: CostModel, floors: PruningConfig) -> float:
    """Return the fraction of a dense net's MACs that is left when every group is at its floor.

    Args:
        groups: Groups of the dense net.
        cost: Its cost model; left as found.
        floors: What every group keeps at least, and ``round_to``.

    Returns:
        The lowest level of ``keep`` that can be reached.
    """
    return _lowest_macs(groups, cost, floors, {g.name: len(g) for g in groups}) / cost.macs


def _budget(keep: float, dense_macs: int) -> int:
    """Return the MACs that a level allows."""
    return math.floor(keep * dense_macs + EPSILON)


def _lowest_macs(
    groups: Sequence[StructureGroup], cost: CostModel, floors: PruningConfig, dense_counts: Mapping[str, int]
) -> int:
    """Return the MACs that are left when every group is at its floor."""
    cost = cost.copy()
    for group in groups:
        lowest = Floor.of(group, dense_counts[group.name], floors).lowest
        cost.remove(group, max(len(group) - lowest, 0))
    return cost.macs

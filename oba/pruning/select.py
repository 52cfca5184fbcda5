"""Global greedy selection: which structures go so that a budget of MACs is met.

Selection asks a score model (:mod:`oba.pruning.prices`) for the price of every structure and tells it
what went.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from oba.config import PruningConfig
from oba.errors import BudgetError
from oba.pruning.cost import CostModel
from oba.pruning.prices import ScoreModel
from oba.structures import StructureGroup

TOLERANCE = 0.02
"""How far below the budget a selection may end, as a fraction of the dense MACs."""

_EPSILON = 1e-6
"""What products of fractions and counts may miss a whole number by."""


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
class _Floor:
    """How few structures a group may keep, and in what steps it shrinks."""

    lowest: int
    step: int

    @classmethod
    def of(cls, group: StructureGroup, dense: int, floors: PruningConfig) -> _Floor:
        """Translate the floors, which speak of channels, into structures of a group."""
        channels = dense * group.width
        fewest = max(floors.min_channels, channels - math.floor(floors.max_removed * channels + _EPSILON))
        lowest = math.ceil(fewest / group.width)
        step = floors.round_to // math.gcd(floors.round_to, group.width)
        if dense < step:
            step = 1
        return cls(min(math.ceil(lowest / step) * step, dense), step)

    def block(self, count: int) -> int:
        """Return how many structures go next from so many: to the next multiple, or 0 at the floor."""
        size = (count - 1) % self.step + 1
        return size if count - size >= self.lowest else 0

    def reach(self, count: int) -> int:
        """Return how many structures can stay at the fewest."""
        return min(count, self.lowest)


class _Queue:
    """Structures of one group that are still there, cheapest first."""

    def __init__(self, order: int, group: StructureGroup, floor: _Floor, prices: Tensor) -> None:
        self.order = order
        self.group = group
        self.floor = floor
        self.left = list(range(len(group)))
        self.reprice(prices)

    def reprice(self, prices: Tensor) -> None:
        """Sort what is left by new prices, equal ones by index."""
        self.prices = prices.tolist()
        self.left.sort(key=lambda i: (self.prices[i], i))
        self._look()

    def pop(self) -> list[int]:
        """Take the next block out."""
        block, self.left = self.left[: self.size], self.left[self.size :]
        self._look()
        return block

    def _look(self) -> None:
        """Find the size and the key (mean price, then order of the groups) of the next block."""
        self.size = self.floor.block(len(self.left))
        mean = sum(self.prices[i] for i in self.left[: self.size]) / self.size if self.size else math.inf
        self.key = (mean, self.order)


def select(
    groups: Sequence[StructureGroup],
    scores: ScoreModel,
    cost: CostModel,
    *,
    keep: float,
    floors: PruningConfig,
    dense_counts: Mapping[str, int],
    dense_macs: int,
) -> Selection:
    """Remove the cheapest structures, over all groups, until the budget of MACs is met.

    Per step the block (with ``round_to`` 1: the structure) with the lowest mean price goes. The result
    lies at or below ``keep`` and within 2 % of the dense MACs of it: a block that would end lower is passed
    over for the next cheapest one that does not; if all would, the one that saves least goes.

    Args:
        groups: Groups of the net as it is now.
        scores: Prices of its structures.
        cost: Its cost model; left as found.
        keep: Fraction of the dense net's MACs to keep at most.
        floors: What every group keeps at least, and ``round_to``.
        dense_counts: Number of structures of each group in the dense net, from which floors count.
        dense_macs: MACs per image of the dense net.

    Returns:
        What goes; nothing if the budget is met already.
    """
    require_reachable(groups, cost, keep=keep, floors=floors, dense_counts=dense_counts, dense_macs=dense_macs)
    cost = cost.copy()
    budget = _budget(keep, dense_macs)
    lower = budget - TOLERANCE * dense_macs
    queues = {
        g.name: _Queue(i, g, _Floor.of(g, dense_counts[g.name], floors), scores.marginals(g.name))
        for i, g in enumerate(groups)
    }
    removed: dict[str, list[int]] = {}
    while cost.macs > budget:
        queue = _next(list(queues.values()), cost, lower)
        block = queue.pop()
        cost.remove(queue.group, len(block))
        removed.setdefault(queue.group.name, []).extend(block)
        for name in scores.remove(queue.group.name, block):
            queues[name].reprice(scores.marginals(name))
    return Selection({name: tuple(sorted(indices)) for name, indices in removed.items()}, cost.macs)


def _next(queues: list[_Queue], cost: CostModel, lower: float) -> _Queue:
    """Return the queue whose next block goes: the cheapest one that does not end too low."""

    def saving(queue: _Queue) -> int:
        return cost.saving(queue.group, queue.size)

    cheapest = min(queues, key=lambda q: q.key)
    if cost.macs - saving(cheapest) >= lower:
        return cheapest
    open_ = [q for q in queues if q.size]
    fitting = [q for q in open_ if cost.macs - saving(q) >= lower]
    return min(fitting, key=lambda q: q.key) if fitting else min(open_, key=lambda q: (saving(q), q.key))


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
    return math.floor(keep * dense_macs + _EPSILON)


def _lowest_macs(
    groups: Sequence[StructureGroup], cost: CostModel, floors: PruningConfig, dense_counts: Mapping[str, int]
) -> int:
    """Return the MACs that are left when every group is at its floor."""
    cost = cost.copy()
    for group in groups:
        floor = _Floor.of(group, dense_counts[group.name], floors)
        cost.remove(group, len(group) - floor.reach(len(group)))
    return cost.macs

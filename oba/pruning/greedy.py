"""Greedy removal: the cheapest structures go one by one, or in blocks (:mod:`oba.pruning.queues`).

Prices (:mod:`oba.pruning.prices`) and savings (:mod:`oba.pruning.cost`) are those of the net without what has gone
before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from oba.pruning.problem import TOLERANCE, Problem, Selection
from oba.pruning.queues import Queue, neighbours
from oba.structures import StructureGroup

Key = tuple[float, bool, float, int]
"""What the next blocks of queues are ranked by: the part of their kind that has gone, and the queue's own key."""


def remove_to_budget(problem: Problem, *, per_mac: bool = False, scope: str = "net") -> Selection:
    """Remove the cheapest structures, over all groups, until the budget of MACs is met.

    Per step one block (with ``round_to`` 1: one structure) goes: that with the lowest mean price; or ``per_mac`` first
    those with negative prices, lowest mean first, then that with the lowest price per MAC that it saves. Equal ones go
    in the order of the groups. The result lies at or below ``keep`` and within 2 % of the dense MACs of it: a block
    that would end lower is passed over for the next one that does not; if all would, the one that saves least goes.

    With the scope ``"kind"``, only structures of one kind are compared with each other: the next one is of the kind of
    which the smallest part of the dense net's structures has gone.

    Args:
        problem: The round.
        per_mac: Whether positive prices are divided by the MACs that are saved.
        scope: ``"net"`` or ``"kind"``.

    Returns:
        What goes; nothing if the budget is met already.
    """
    removal = _Removal(problem, per_mac=per_mac)
    paces = _Paces(problem) if scope == "kind" else None
    lowest = problem.budget - TOLERANCE * problem.dense_macs

    def key(queue: Queue) -> Key:
        return (paces.of(queue.group) if paces else 0.0, *queue.key())

    while removal.macs > problem.budget:
        queue = _fitting(removal.open(), key, spare=removal.macs - lowest)
        if paces:
            paces.remove(queue.group, len(queue.block))
        removal.pop(queue)
    return removal.selection()


def remove_counts(problem: Problem, counts: Mapping[str, int]) -> Selection:
    """Remove given numbers of structures, the cheapest ones first, over all groups in turn.

    Args:
        problem: The round.
        counts: How many go, by group; none of groups that are absent.

    Returns:
        What goes.
    """
    removal = _Removal(problem)
    for queue in removal.queues:
        queue.limit(counts.get(queue.group.name, 0))
    while queues := removal.open():
        removal.pop(min(queues, key=Queue.key))
    return removal.selection()


class _Removal:
    """A net from which blocks go, with the prices and savings of what is left."""

    def __init__(self, problem: Problem, *, per_mac: bool = False) -> None:
        problem.require_reachable()
        self._prices, self._cost = problem.prices(), problem.cost.copy()
        self.queues = [
            Queue(i, group, problem.floor(group), self._prices, self._cost, per_mac=per_mac)
            for i, group in enumerate(problem.groups)
        ]
        self._sharing = neighbours(self.queues)
        self._removed: dict[str, list[int]] = {}

    @property
    def macs(self) -> int:
        return self._cost.macs

    def open(self) -> list[Queue]:
        """Return the queues of which something may still go."""
        return [queue for queue in self.queues if queue.block]

    def pop(self, queue: Queue) -> None:
        """Let a queue's next block go, and tell the others."""
        self._removed.setdefault(queue.group.name, []).extend(queue.pop())
        for other in self.queues if self._prices.interact else [queue]:
            other.reprice()
        for other in self._sharing[queue.order]:
            other.resize()

    def selection(self) -> Selection:
        return Selection({name: tuple(sorted(indices)) for name, indices in self._removed.items()}, self.macs)


class _Paces:
    """What part of each kind of structures has gone, of those that the dense net has."""

    def __init__(self, problem: Problem) -> None:
        self._dense, self._gone = Counter[str](), Counter[str]()
        for group in problem.groups:
            self._dense[group.kind] += problem.dense_counts[group.name]
            self.remove(group, problem.dense_counts[group.name] - len(group))

    def of(self, group: StructureGroup) -> float:
        return self._gone[group.kind] / self._dense[group.kind]

    def remove(self, group: StructureGroup, count: int) -> None:
        self._gone[group.kind] += count


def _fitting(queues: list[Queue], key: Callable[[Queue], Key], spare: float) -> Queue:
    """Return the queue whose next block goes: the first by its key that saves no more MACs than can be spared."""
    first = min(queues, key=key)
    if first.saving <= spare:
        return first
    fitting = [q for q in queues if q.saving <= spare]
    return min(fitting, key=key) if fitting else min(queues, key=lambda q: (q.saving, key(q)))

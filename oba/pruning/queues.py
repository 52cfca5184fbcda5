"""How one group of structures shrinks: its floor, and the block of it that would go next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from oba.config import Floors
from oba.pruning.cost import CostModel
from oba.pruning.prices import Prices
from oba.structures import ATTENTION, IN, OUT, StructureGroup

EPSILON = 1e-6
"""What products of fractions and counts may miss a whole number by."""


@dataclass(frozen=True)
class GroupFloor:
    """How few structures a group may keep, and in what steps it shrinks.

    Attributes:
        lowest: Number of structures that stay at the fewest.
        step: Their number is a multiple of this, or the dense one.
    """

    lowest: int
    step: int

    @classmethod
    def of(cls, group: StructureGroup, dense: int, floors: Floors) -> GroupFloor:
        """Translate the floors, which speak of channels, into structures of a group.

        Args:
            group: The group.
            dense: Number of its structures in the dense net.
            floors: What every group keeps at least, and ``round_to``.

        Returns:
            The group's floor.
        """
        channels = dense * group.width
        fewest = max(floors.min_channels, channels - math.floor(floors.max_removed * channels + EPSILON))
        lowest = math.ceil(fewest / group.width)
        step = floors.round_to // math.gcd(floors.round_to, group.width)
        if dense < step:
            step = 1
        return cls(min(math.ceil(lowest / step) * step, dense), step)

    def block(self, count: int) -> int:
        """Return how many structures go next.

        Args:
            count: How many there are.

        Returns:
            As many as lead to the next multiple, or 0 at the floor.
        """
        size = (count - 1) % self.step + 1
        return size if count - size >= self.lowest else 0


class Queue:
    """The block of one group that would go next, what it costs and what it saves."""

    def __init__(
        self, order: int, group: StructureGroup, floor: GroupFloor, prices: Prices, cost: CostModel, *, per_mac: bool
    ) -> None:
        """Start from the full group.

        Args:
            order: Its place among the groups, which decides between equals.
            group: The group.
            floor: Its floor.
            prices: Prices of all structures.
            cost: Cost model of the net.
            per_mac: Whether positive prices are divided by the MACs that are saved.
        """
        self.order = order
        self.group = group
        self._floor = floor
        self._prices = prices
        self._cost = cost
        self._per_mac = per_mac
        self._left = len(group)
        self._quota = len(group)
        self.reprice()
        self.resize()

    def reprice(self) -> None:
        """Find the next block again, because prices have changed."""
        size = min(self._floor.block(self._left), self._quota)
        self.block, self.price = self._prices.cheapest(self.group.name, size)

    def limit(self, quota: int) -> None:
        """Let at most so many structures go in all; the next block is cut to what is left of them."""
        self._quota = quota
        self.reprice()
        self.resize()

    def resize(self) -> None:
        """Forget what the next block saves, because it is another or a layer of the group has changed."""
        self._saving: int | None = None

    @property
    def saving(self) -> int:
        """MACs per image that the next block saves."""
        if self._saving is None:
            self._saving = self._cost.saving(self.group, len(self.block))
        return self._saving

    def key(self) -> tuple[bool, float, int]:
        """Return what the next block is ranked by: the lowest key goes first.

        Returns:
            Whether it waits for all blocks with negative prices, its value, and the order of the groups.
        """
        mean = self.price / len(self.block)
        if not self._per_mac or mean < 0:
            return False, mean, self.order
        return True, self.price / self.saving if self.saving else math.inf, self.order

    def pop(self) -> list[int]:
        """Take the next block out of the net; the one after it is found by :meth:`reprice` and :meth:`resize`.

        Returns:
            The structures that went.
        """
        self._cost.remove(self.group, len(self.block))
        self._prices.remove(self.group.name, self.block)
        self._left -= len(self.block)
        self._quota -= len(self.block)
        return self.block


def neighbours(queues: Sequence[Queue]) -> list[list[Queue]]:
    """Find the queues that share a layer: what one removes changes what the others save.

    Args:
        queues: The queues of all groups, in order.

    Returns:
        For each of them those that share a layer with it, itself included if it has any.
    """
    layers = [{s.layer for s in q.group.on_axis(OUT, IN, *ATTENTION)} for q in queues]
    return [[other for other, theirs in zip(queues, layers, strict=True) if own & theirs] for own in layers]

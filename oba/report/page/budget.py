"""How much of a large sweep goes into its page: the first seed of every net before the second of any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeVar

from oba.report.net import Net

T = TypeVar("T")


class Budget:
    """Counts numbers until there are enough."""

    def __init__(self, most: int) -> None:
        """Start with nothing taken.

        Args:
            most: How many numbers there may be.
        """
        self.left = most
        self.left_out = 0

    def takes(self, count: int) -> bool:
        """Take so many numbers if they fit, or note one entry that was left out."""
        if count > self.left:
            self.left_out += 1
            return False
        self.left -= count
        return True


def seeds_first(nets: Sequence[Net]) -> Iterator[tuple[int, Net]]:
    """Yield the nets with their places: the first seed of each, then the second of each, and so on.

    Args:
        nets: The nets.

    Yields:
        Place in ``nets``, and net.
    """
    seen: Counter[tuple[object, ...]] = Counter()
    ranked = []
    for place, net in enumerate(nets):
        key = (net.model, net.method, net.schedule, net.keep, net.variant)
        ranked.append((seen[key], place, net))
        seen[key] += 1
    ranked.sort(key=lambda entry: entry[:2])
    for _, place, net in ranked:
        yield place, net


def thinned(values: Sequence[T], most: int) -> list[T]:
    """Return values at even distances, the first and the last among them.

    Args:
        values: The values.
        most: How many there may be, two or more.

    Returns:
        All of them if they are few enough.
    """
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]

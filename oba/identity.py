"""Which rank this process is; nothing here exchanges anything, or imports torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

LAUNCHER = "OBA_LAUNCHER"
"""Environment variable with the process that started this one as a rank. A process without it is no rank, whatever
other programs left in ``RANK`` and ``WORLD_SIZE``."""
MEETING = "OBA_MEETING"
"""Environment variable with the folder in which the ranks of a job find each other: their user's alone, on the disk of
their machine, since whoever reached a port of theirs could run code in them."""

T = TypeVar("T")


def rank() -> int:
    """Return the number of this process among the ranks of its job, from 0."""
    return int(os.environ["RANK"]) if LAUNCHER in os.environ else 0


def count() -> int:
    """Return how many ranks the job has."""
    return int(os.environ["WORLD_SIZE"]) if LAUNCHER in os.environ else 1


def is_main() -> bool:
    """Tell whether this is the rank that writes files and reports."""
    return rank() == 0


def own(items: Iterable[T]) -> Iterator[T]:
    """Return this rank's part of what all ranks go through in the same order: every so many-th, whole.

    Args:
        items: Batches, for example.

    Returns:
        Items number r, r + n, r + 2n, … of rank r of n; there may be none.
    """
    return islice(items, rank(), None, count())

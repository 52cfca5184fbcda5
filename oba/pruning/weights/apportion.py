"""Whole numbers in proportion to shares."""

from __future__ import annotations

import math
from collections.abc import Sequence


def apportion(total: int, shares: Sequence[float], most: Sequence[int]) -> list[int]:
    """Divide a number in proportion to shares, nobody getting more than its limit.

    What a limit holds back goes to the others in proportion. Fractions are rounded by largest remainders, the first of
    equal ones up.

    Args:
        total: What is divided.
        shares: Positive.
        most: Limits.

    Returns:
        Numbers that add up to the total, or to all limits where these are less.
    """
    if total >= sum(most):
        return list(most)
    full: set[int] = set()
    while True:
        free = [i for i in range(len(shares)) if i not in full]
        left = total - sum(most[i] for i in full)
        scale = left / sum(shares[i] for i in free)
        over = {i for i in free if scale * shares[i] >= most[i]}
        if not over:
            break
        full |= over
    counts = list(most)
    for i in free:
        counts[i] = math.floor(scale * shares[i])
    rest = total - sum(counts)
    for i in sorted(free, key=lambda i: counts[i] - scale * shares[i])[:rest]:
        counts[i] += 1
    return counts

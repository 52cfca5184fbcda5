"""Places for labels that must not overlap."""

from __future__ import annotations

from collections.abc import Sequence


def spread_labels(positions: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """Move labels apart as little as possible (least squares).

    Args:
        positions: Where each label would like to be.
        distance: The smallest distance between two of them.
        low: The lowest place allowed.
        high: The highest place allowed, as far as all fit.

    Returns:
        Places in the order of ``positions``, whose own order they keep.
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    blocks: list[list[float]] = []
    for rank, index in enumerate(order):
        blocks.append([positions[index] - rank * distance])
        while len(blocks) > 1 and _mean(blocks[-2]) > _mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    shifted = [_mean(block) for block in blocks for _ in block]
    highest = max(high - (len(order) - 1) * distance, low)
    placed = [0.0] * len(order)
    for rank, index in enumerate(order):
        placed[index] = min(max(shifted[rank], low), highest) + rank * distance
    return placed


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

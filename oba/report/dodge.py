"""Points that coincide are set side by side, so that no marker hides another."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]


def dodge(points: Sequence[Point], reach: float, step: float, widest: float) -> list[float]:
    """Return how far to move each point sideways.

    Args:
        points: Places on the sheet.
        reach: Points nearer than this, across and up, hide each other.
        step: Distance between neighbours that are set side by side.
        widest: How wide a row of them may be; larger ones stand closer.

    Returns:
        The new places across, in the order of ``points``; a point that nothing hides stays, and a row of several is
        centred on the middle of their old places.
    """
    placed = [x for x, _ in points]
    for group in _clusters(points, reach):
        if len(group) > 1:
            middle = sum(points[index][0] for index in group) / len(group)
            closer = min(step, widest / (len(group) - 1))
            for rank, index in enumerate(group):
                placed[index] = middle + (rank - (len(group) - 1) / 2) * closer
    return placed


def _clusters(points: Sequence[Point], reach: float) -> list[list[int]]:
    """Group points that hide each other, directly or through others; each group in the order given."""
    groups: list[list[int]] = []
    for index, (x, y) in enumerate(points):
        near = [g for g in groups if any(abs(points[i][0] - x) < reach and abs(points[i][1] - y) < reach for i in g)]
        joined = sorted(i for group in near for i in group)
        groups = [group for group in groups if group not in near] + [[*joined, index]]
    return groups

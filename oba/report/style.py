"""The style of all pictures: colours and markers per method, type and line widths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib

from oba.layout import DENSE_LONGER
from oba.report.net import DENSE, Net
from oba.report.palette import METHOD_COLORS

INK = "#1c1c1c"
"""Text and the dense net."""
MUTED = "#6a6a6a"
"""Axes, secondary text and the control that removes nothing."""
FAINT = "#e4e4e4"
"""Grid lines."""
ALARM = "#d55e00"
"""Marks of what needs attention."""
SMALL = 7.5
"""Points of secondary text."""

_MARKERS = ["o", "s", "^", "D", "v", "p", "<", "h", ">"]
_STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "lines.markeredgewidth": 0.7,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class LineStyle:
    """How one method is drawn, in every picture alike.

    Attributes:
        color: Of its lines and markers.
        marker: Which tells it apart without colour.
    """

    color: str
    marker: str


def line_styles(methods: Sequence[str]) -> dict[str, LineStyle]:
    """Give every method its colour and marker.

    Args:
        methods: Names in the order of the study, ``dense`` and ``dense-longer`` left out or not.

    Returns:
        A style per name; ``dense`` and ``dense-longer`` are grey.
    """
    others = [name for name in methods if name not in (DENSE, DENSE_LONGER)]
    found = {
        name: LineStyle(METHOD_COLORS[index % len(METHOD_COLORS)], _MARKERS[index % len(_MARKERS)])
        for index, name in enumerate(others)
    }
    return {**found, DENSE: LineStyle(INK, "o"), DENSE_LONGER: LineStyle(MUTED, "d")}


def in_order(nets: Sequence[Net], key: str) -> list[Any]:
    """Return the distinct values of one coordinate, as they first appear.

    Args:
        nets: The nets.
        key: The coordinate.

    Returns:
        The values.
    """
    return list(dict.fromkeys(getattr(net, key) for net in nets))


@contextmanager
def styled() -> Iterator[None]:
    """Draw with this project's style whatever the user's matplotlib settings are, and leave those as they were.

    Yields:
        Nothing.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield

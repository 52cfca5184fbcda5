"""Sheets laid out in inches: axes, text, headings and legends where they are told to be, saved repeatably."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from oba.report.style import MUTED, SMALL, LineStyle

HEADING = 0.62
"""Height in inches that a heading with one line of subtitle takes."""
LEGEND_ROW = 0.2
"""Height in inches of one row of a legend."""
_DPI = 200
_TITLE = 11.0


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure that no global list of figures knows.

    Args:
        width: In inches.
        height: In inches.

    Returns:
        The figure, on an Agg canvas.
    """
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def place_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes at a place given in inches.

    Args:
        figure: The figure.
        left: From the figure's left edge.
        top: From the figure's upper edge down.
        width: Of the drawing area.
        height: Of the drawing area.

    Returns:
        The axes.
    """
    total_width, total_height = figure.get_size_inches()
    bottom = 1 - (top + height) / total_height
    return figure.add_axes((left / total_width, bottom, width / total_width, height / total_height))


def write_at(figure: Figure, left: float, top: float, text: str, **how: Any) -> None:
    """Write text at a place given in inches.

    Args:
        figure: The figure.
        left: From the figure's left edge.
        top: From the figure's upper edge down, to the text's upper edge unless ``va`` says otherwise.
        text: What to write.
        how: Further text properties of matplotlib.
    """
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - top / height, text, **{"va": "top", **how})


def write_title(figure: Figure, left: float, title: str, subtitle: str) -> None:
    """Write a picture's heading in the upper left corner; it takes :data:`HEADING` inches.

    Args:
        figure: The figure.
        left: In inches from the left edge.
        title: In bold.
        subtitle: Below it.
    """
    write_at(figure, left, 0.12, title, fontsize=_TITLE, fontweight="bold")
    write_at(figure, left, 0.36, subtitle, fontsize=SMALL, color=MUTED, linespacing=1.35)


def legend_rows(names: Sequence[str], width: float) -> list[list[str]]:
    """Break the names of a legend into rows that fit; each takes :data:`LEGEND_ROW` inches.

    Args:
        names: What to name.
        width: In inches.

    Returns:
        The rows.
    """
    fitting = max(1, int(width / _legend_pitch(names)))
    return [list(names[start : start + fitting]) for start in range(0, len(names), fitting)]


def draw_legend(
    figure: Figure, left: float, top: float, rows: list[list[str]], styles: Mapping[str, LineStyle]
) -> None:
    """Name lines by colour and marker, to be read row by row.

    Args:
        figure: The figure.
        left: In inches from the left edge.
        top: In inches from the upper edge.
        rows: What :func:`legend_rows` made.
        styles: How each is drawn.
    """
    width, height = figure.get_size_inches()
    pitch = _legend_pitch([name for row in rows for name in row])
    for index, row in enumerate(rows):
        y = 1 - (top + (index + 0.5) * LEGEND_ROW) / height
        for column, name in enumerate(row):
            x = left + column * pitch
            line = Line2D(
                [x / width, (x + 0.15) / width, (x + 0.3) / width],
                [y, y, y],
                color=styles[name].color,
                marker=styles[name].marker,
                markevery=[1],
                markeredgecolor="white",
            )
            figure.add_artist(line)
            figure.text((x + 0.37) / width, y, name, va="center_baseline")


def _legend_pitch(names: Sequence[str]) -> float:
    return max(text_width(name, 8.5) for name in names) + 0.65


def heading_width(title: str, *smaller: str) -> float:
    """Return how wide a sheet must be for its title and the secondary texts that start at the same edge.

    Args:
        title: What :func:`write_title` writes in bold.
        smaller: The subtitle and footnotes.

    Returns:
        Inches, margins included.
    """
    return max(text_width(title, _TITLE, "bold"), *(text_width(text, SMALL) for text in smaller)) + 0.35


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Estimate how wide a text is.

    Args:
        text: The text, not blank.
        size: In points.
        weight: Of the type.

    Returns:
        Inches.
    """
    path = TextPath((0, 0), text, prop=FontProperties(family="DejaVu Sans", size=size, weight=weight))
    return float(path.vertices[:, 0].max()) / 72


def save_picture(figure: Figure, path: Path) -> None:
    """Save as PNG; the same drawing gives the same bytes.

    Args:
        figure: The figure.
        path: The file, whatever its suffix.
    """
    figure.savefig(path, format="png", dpi=_DPI, metadata={"Software": None})

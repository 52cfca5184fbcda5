"""The picture of what a net loses when one group of structures shrinks alone: groups by fractions kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from oba.report.frames import grouped
from oba.report.sheet import HEADING, heading_width, new_figure, place_axes, text_width, write_at, write_title
from oba.report.style import INK, MUTED, SMALL

COLUMNS = [
    "group",
    "kind",
    "layers",
    "structures",
    "kept",
    "keep",
    "val_top1",
    "drop_points",
    "val_loss",
    "macs",
    "macs_kept",
]
"""The columns of ``sensitivity.csv``; :func:`oba.sensitivity` says what they are."""
_ROW, _COLUMN, _BAR = 0.185, 0.46, 1.15
_TOP, _BOTTOM = HEADING + 0.3, 0.42
_GAP = 0.3
_FULL = 5.0
"""Points that are drawn in the darkest colour at the least: what chance does is not drawn as an alarm."""
_MARKED = 3
"""Groups that are written in bold."""
_COLORS: Colormap = LinearSegmentedColormap.from_list("drop", ["#fdf8f4", "#f9c79a", "#e07b27", "#8f3b00", "#4a1c00"])


def most_sensitive(frame: pd.DataFrame) -> list[str]:
    """Order groups by what they lose, as a mean over the fractions.

    Args:
        frame: What :func:`oba.sensitivity` returns.

    Returns:
        Their names, the most sensitive first.
    """
    means = frame.groupby("group", sort=False).drop_points.mean()
    return [str(name) for name in means.sort_values(ascending=False, kind="stable").index]


def draw_sensitivity(frame: pd.DataFrame, title: str, subtitle: str) -> Figure:
    """Draw a map of groups by fractions kept, darker where more accuracy is lost, and what each group could save.

    Args:
        frame: What :func:`oba.sensitivity` returns.
        title: What was measured.
        subtitle: How.

    Returns:
        The figure; groups are in the order of the net, and the three most sensitive ones in bold.
    """
    groups = [str(name) for name in frame.group.unique()]
    levels = [float(level) for level in frame.keep.unique()]
    drops = frame.drop_points.to_numpy().reshape(len(groups), len(levels))
    sizes = [int(group.structures.iloc[0]) for _, group in grouped(frame, ["group"])]
    saved = 100 * (1 - frame.macs_kept.to_numpy().reshape(drops.shape)[:, -1])
    left = 0.15 + max(text_width(name, 7.5, "bold") for name in groups) + 0.5
    map_width, height = len(levels) * _COLUMN, len(groups) * _ROW
    note = "Bold: the groups that lose most over all fractions."
    width = max(left + map_width + _GAP + _BAR + 0.6, heading_width(title, *subtitle.splitlines(), note))
    extra = 0.15 * subtitle.count("\n")
    figure = new_figure(width, _TOP + extra + height + _BOTTOM)
    write_title(figure, 0.15, title, subtitle)
    top = _TOP + extra
    _name_rows(figure, left, top, groups, sizes, set(most_sensitive(frame)[:_MARKED]))
    axes = place_axes(figure, left, top, map_width, height)
    _draw_map(axes, drops, levels)
    bars = place_axes(figure, left + map_width + _GAP, top, _BAR, height)
    _draw_savings(bars, saved, levels[-1])
    write_at(figure, 0.15, top + height + 0.14, note, fontsize=SMALL, color=MUTED)
    return figure


def _name_rows(
    figure: Figure, left: float, top: float, groups: Sequence[str], sizes: Sequence[int], marked: set[str]
) -> None:
    write_at(figure, left - 0.08, top - 0.045, "of", fontsize=7, color=MUTED, ha="right", va="bottom")
    for index, (name, size) in enumerate(zip(groups, sizes, strict=True)):
        middle = top + (index + 0.5) * _ROW
        weight = "bold" if name in marked else "normal"
        write_at(figure, left - 0.45, middle, name, fontsize=7.5, fontweight=weight, ha="right", va="center_baseline")
        write_at(figure, left - 0.08, middle, f"{size}", fontsize=7, color=MUTED, ha="right", va="center_baseline")


def _draw_map(axes: Axes, drops: np.ndarray, levels: Sequence[float]) -> None:
    rows, columns = drops.shape
    full = max(_FULL, drops.max())
    axes.pcolormesh(np.clip(drops, 0, None), cmap=_COLORS, vmin=0, vmax=full, edgecolors="white", linewidth=0.8)
    axes.set_ylim(rows, 0)
    for row in range(rows):
        for column in range(columns):
            drop = drops[row, column]
            text = f"{drop:z.1f}".replace("-", "\N{MINUS SIGN}")
            dark = drop > 0.6 * full
            style = {"fontsize": 6.5, "ha": "center", "va": "center_baseline"}
            axes.text(column + 0.5, row + 0.5, text, color="white" if dark else INK, **style)
    axes.set_xticks(np.arange(columns) + 0.5, [f"{level:g}" for level in levels], fontsize=7)
    _above(axes, "fraction of the group kept")


def _draw_savings(axes: Axes, saved: np.ndarray, level: float) -> None:
    rows = len(saved)
    axes.barh(np.arange(rows) + 0.5, saved, height=0.62, color="#9ecae1")
    axes.set_ylim(rows, 0)
    axes.set_xlim(0, max(saved.max(), 1e-9))
    for row, value in enumerate(saved):
        axes.annotate(
            f"{value:.1f}",
            (value, row + 0.5),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize=6.5,
            color=MUTED,
            va="center_baseline",
            annotation_clip=False,
        )
    axes.set_xticks([])
    _above(axes, f"% of all MACs saved at {level:g}")


def _above(axes: Axes, title: str) -> None:
    axes.set_yticks([])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=1.5)
    axes.spines[:].set_visible(False)
    axes.set_title(title, loc="left", fontsize=7, color=MUTED, pad=4)

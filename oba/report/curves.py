"""The picture of the trainings: validation accuracy and training loss per epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from oba.report.history import mean_history
from oba.report.net import DENSE, FINETUNED, Net, seeds_of
from oba.report.sheet import (
    HEADING,
    LEGEND_ROW,
    draw_legend,
    heading_width,
    legend_rows,
    new_figure,
    place_axes,
    write_at,
    write_title,
)
from oba.report.style import INK, MUTED, SMALL, LineStyle, in_order, line_styles

_WIDTH, _HEIGHT = 1.85, 1.3
_LEFT, _OWN_AXIS, _GAP, _RIGHT = 0.66, 0.5, 0.14, 0.2
_TOP, _BETWEEN, _BOTTOM = 0.5, 0.14, 0.55
_LEVELS_PER_ROW = 6
_LINEAR_SPAN = 8.0
"""Losses that span a smaller factor than this have a linear axis."""
_MARKS = 5
"""Markers along a curve."""


_Limits = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class _Panel:
    """One training: a column of accuracy above loss.

    Attributes:
        heading: What is trained.
        column: Its place; the dense training has column 0 to itself.
        lines: Mean histories by method.
    """

    heading: str
    column: int
    lines: dict[str, pd.DataFrame]


@dataclass(frozen=True)
class _Row:
    """Panels side by side.

    Attributes:
        heading: Model and schedule.
        panels: The columns.
        limits: Range of each quantity over all fine-tuning of the model and schedule.
        dense: Last accuracy of the dense training, in per cent, if it was trained.
    """

    heading: str
    panels: list[_Panel]
    limits: _Limits
    dense: float | None


def draw_curves(nets: Sequence[Net], title: str) -> Figure:
    """Draw the dense training and the fine-tuning at every level, one block of panels per model and schedule.

    Args:
        nets: The finished nets.
        title: Name of the experiment.

    Returns:
        The figure: in each block validation accuracy above, training loss below; panels of fine-tuning share axes.
    """
    styles = line_styles(in_order(nets, "method"))
    schedules = [s for s in in_order(nets, "schedule") if s] or [""]
    rows = []
    for model in in_order(nets, "model"):
        for schedule in schedules:
            heading = f"{model}, {schedule}" if len(schedules) > 1 else str(model)
            rows += _rows(heading, [net for net in nets if net.model == model], schedule)
    drawn = {name for row in rows for panel in row.panels for name in panel.lines}
    names = sorted((name for name in styles if name in drawn), key=lambda name: name != DENSE)
    columns = 1 + max(panel.column for row in rows for panel in row.panels)
    seeds = seeds_of(nets)
    spread = f" Means over {seeds} seeds, bands from the lowest to the highest." if seeds else ""
    heading = f"{title}: training"
    subtitle = f"Accuracy on val above, training loss below. Dashed: the dense net's last epoch.{spread}"
    width = max(_left(columns) - _GAP + _RIGHT, heading_width(heading, subtitle))
    legend = legend_rows(names, width - 0.3)
    head = HEADING + len(legend) * LEGEND_ROW + 0.1
    pitch = _TOP + 2 * _HEIGHT + _BETWEEN + _BOTTOM
    figure = new_figure(width, head + pitch * len(rows))
    write_title(figure, 0.15, heading, subtitle)
    draw_legend(figure, 0.15, HEADING - 0.04, legend, styles)
    for index, row in enumerate(rows):
        _draw_row(figure, head + index * pitch + _TOP, row, styles)
    return figure


def _rows(heading: str, nets: Sequence[Net], schedule: str) -> list[_Row]:
    """The dense training and every level of one schedule, broken evenly into rows that fit the page."""
    dense = _joined([net for net in nets if net.method == DENSE])
    chains = [net for net in nets if net.variant == FINETUNED and net.schedule == schedule]
    levels = sorted(in_order(chains, "keep"), reverse=True)
    count = max(1, math.ceil(len(levels) / _LEVELS_PER_ROW))
    per_row = max(1, math.ceil(len(levels) / count))
    panels = [_Panel(DENSE, 0, {DENSE: dense})]
    for index, keep in enumerate(levels):
        level = [net for net in chains if net.keep == keep]
        lines = {name: _joined([net for net in level if net.method == name]) for name in in_order(level, "method")}
        panels.append(_Panel(f"fine-tuning, keep {keep:.2f}", 1 + index % per_row, lines))
    last = float(dense.val_top1.iloc[-1]) if len(dense) else None
    limits = _limits(panels[1:])
    if last is not None and "val_top1" in limits:
        low, high = limits["val_top1"]
        limits["val_top1"] = (min(low, last), max(high, last))
    rows = [_Row(heading, panels[: 1 + per_row], limits, last)]
    for start in range(1 + per_row, len(panels), per_row):
        rows.append(_Row(f"{heading}, continued", panels[start : start + per_row], limits, last))
    return rows


def _joined(nets: Sequence[Net]) -> pd.DataFrame:
    return mean_history([net.directory / "history.csv" for net in nets])


def _limits(panels: Sequence[_Panel]) -> _Limits:
    """Return the range of each quantity over some panels."""
    frames = [frame for panel in panels for frame in panel.lines.values() if len(frame)]
    found = {}
    for quantity in ("val_top1", "train_loss"):
        if frames:
            low = min(frame[f"{quantity}_low"].min() for frame in frames)
            found[quantity] = (low, max(frame[f"{quantity}_high"].max() for frame in frames))
    return found


def _left(column: int) -> float:
    """Return where a column begins, in inches; the first of fine-tuning leaves room for its own axis."""
    return _LEFT + column * (_WIDTH + _GAP) + (_OWN_AXIS - _GAP if column else 0)


def _draw_row(figure: Figure, top: float, row: _Row, styles: dict[str, LineStyle]) -> None:
    write_at(figure, _left(row.panels[0].column), top - _TOP + 0.02, row.heading, fontsize=9.5, fontweight="bold")
    for index, panel in enumerate(row.panels):
        left, own, labelled = _left(panel.column), panel.column == 0, panel.column <= 1
        above = place_axes(figure, left, top, _WIDTH, _HEIGHT)
        below = place_axes(figure, left, top + _HEIGHT + _BETWEEN, _WIDTH, _HEIGHT)
        for quantity, axes in (("val_top1", above), ("train_loss", below)):
            _draw_panel(axes, panel, quantity, styles)
            _scale(axes, quantity, _limits([panel]) if own else row.limits)
            axes.grid(axis="y")
            axes.tick_params(left=labelled, labelleft=labelled, labelbottom=quantity == "train_loss")
        if not own and row.dense is not None:
            above.axhline(row.dense, color=INK, linewidth=0.8, linestyle=(0, (5, 3)), zorder=1.5)
        above.set_title(panel.heading, loc="left", fontsize=8.5, pad=5)
        below.set_xlabel("Epoch")
        if index == 0:
            above.set_ylabel("Val accuracy (%)")
            below.set_ylabel("Training loss")


def _draw_panel(axes: Axes, panel: _Panel, quantity: str, styles: dict[str, LineStyle]) -> None:
    for order, (name, frame) in enumerate(panel.lines.items()):
        if frame.empty:
            continue
        style = styles[name]
        axes.fill_between(
            frame.epoch,
            frame[f"{quantity}_low"],
            frame[f"{quantity}_high"],
            color=style.color,
            alpha=0.15,
            linewidth=0,
        )
        step = max(1, math.ceil(len(frame) / _MARKS))
        axes.plot(
            frame.epoch,
            frame[quantity],
            color=style.color,
            marker=style.marker,
            markevery=[*range(order * step // len(panel.lines), len(frame) - 1, step), len(frame) - 1],
            markersize=4,
            markeredgecolor="white",
            markeredgewidth=0.5,
            linewidth=1.3,
        )
    if all(frame.empty for frame in panel.lines.values()):
        axes.text(0.5, 0.5, "not trained", transform=axes.transAxes, ha="center", color=MUTED, fontsize=SMALL)


def _scale(axes: Axes, quantity: str, limits: _Limits) -> None:
    """Set the axes; losses that span decades get a logarithmic one."""
    if quantity not in limits:
        axes.set_yticks([])
        axes.set_xticks([])
        return
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    low, high = limits[quantity]
    if quantity == "train_loss" and low > 0 and high / low >= _LINEAR_SPAN:
        axes.set_yscale("log")
        pad = (high / low) ** 0.06
        axes.set_ylim(low / pad, high * pad)
        subs = (1.0,) if high / low > 300 else (1.0, 3.0)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=7))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        return
    pad = max(high - low, 1e-3) * 0.06
    axes.set_ylim(low - pad, high + pad)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))

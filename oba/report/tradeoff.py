"""The picture of what pruning costs: test accuracy against MACs kept, or weights."""

from __future__ import annotations

import math
from itertools import product
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from oba.layout import DENSE_LONGER
from oba.report.dodge import dodge
from oba.report.frames import records, where
from oba.report.granularity import MEASURES, granularities, of_granularity
from oba.report.labels import spread_labels
from oba.report.net import DENSE, FINETUNED, SCRATCH
from oba.report.sheet import HEADING, heading_width, new_figure, place_axes, text_width, write_at, write_title
from oba.report.style import FAINT, INK, MUTED, SMALL, LineStyle, line_styles

_WIDTH, _HEIGHT = 4.4, 3.3
_LEFT, _TOP, _BOTTOM, _GAP = 0.62, 0.34, 0.56, 0.25
_LABEL = 8.5
_LOG_BELOW = 15.0
"""Per cent kept from which on down the axis is logarithmic: linear axes crowd levels smaller than a seventh."""
_READING = "Numbers at the right: per cent at the smallest level. Markers that coincide stand side by side."
_HIDDEN, _BESIDE, _WIDEST = 0.055, 0.085, 0.5
"""Inches: markers nearer than the first hide each other, and stand side by side at the second, in rows of the third."""


class _End(NamedTuple):
    """Where a line ends, and what to write there."""

    x: float
    y: float
    label: str
    name: str


def draw_tradeoff(summary: pd.DataFrame, title: str) -> Figure:
    """Draw accuracy against what is kept, one line per method, one panel per model, granularity and schedule.

    Args:
        summary: The table of :func:`oba.report.summarize.summarize`.
        title: Name of the experiment.

    Returns:
        The figure.
    """
    schedules = [s for s in summary.schedule.unique() if s] or [""]
    of_methods = granularities(summary)
    panels = list(product(summary.model.unique(), of_methods, schedules))
    columns = min(2, len(panels))
    styles = line_styles(list(summary.method.unique()))
    margin = max(text_width(_label(row), _LABEL) for row in records(summary)) + 0.6
    pitch_x = _LEFT + _WIDTH + margin + _GAP
    pitch_y = _TOP + _HEIGHT + _BOTTOM
    notes = _footnotes(summary)
    rows = math.ceil(len(panels) / columns)
    kept = " and ".join(MEASURES[granularity].noun for granularity in of_methods)
    heading, subtitle = f"{title}: test accuracy against {kept} kept", _subtitle(summary)
    width = max(columns * pitch_x, heading_width(heading, subtitle, *notes))
    figure = new_figure(width, HEADING + rows * pitch_y + 0.17 * len(notes) + 0.12)
    write_title(figure, 0.15, heading, subtitle)
    for index, (model, granularity, schedule) in enumerate(panels):
        row, column = divmod(index, columns)
        of_model = where(summary, summary.model == model)
        axes = place_axes(figure, column * pitch_x + _LEFT, HEADING + row * pitch_y + _TOP, _WIDTH, _HEIGHT)
        words = [str(model), *[granularity] * (len(of_methods) > 1), *[schedule] * (len(schedules) > 1)]
        axes.set_title(", ".join(words), loc="left", fontsize=9.5, fontweight="bold", pad=8)
        axes.set_ylim(*_limits(of_model))
        nets = of_granularity(where(of_model, of_model.schedule.isin(["", schedule])), granularity)
        measure = MEASURES[granularity]
        _draw_panel(axes, nets.assign(kept_percent=nets[measure.column].fillna(100.0)), styles)
        axes.set_ylabel("Test accuracy (%)" if column == 0 else "")
        axes.set_xlabel(f"{measure.noun[0].upper()}{measure.noun[1:]} kept (%)")
    for index, note in enumerate(notes):
        write_at(figure, 0.15, HEADING + rows * pitch_y + 0.17 * index, note, fontsize=SMALL, color=MUTED)
    return figure


def _label(row: Any) -> str:
    return f"{row.method} {row.top1_percent:.1f}"


def _subtitle(summary: pd.DataFrame) -> str:
    seeds = summary.seeds.max()
    if seeds == 1:
        return f"One seed: no error bars. {_READING}"
    few = f"{summary.seeds.min()} to " if summary.seeds.min() < seeds else ""
    return f"Mean over {few}{seeds} seeds, bars ± sample standard deviation. {_READING}"


def _footnotes(summary: pd.DataFrame) -> list[str]:
    notes = []
    if (summary.variant == SCRATCH).any():
        notes.append("Hollow markers: the same pruned architecture trained from new weights (scratch).")
    if (summary.method == DENSE_LONGER).any():
        notes.append(
            f"{DENSE_LONGER}: nothing removed (100 % kept); drawn at the level whose training epochs it shares."
        )
    return notes


def _limits(of_model: pd.DataFrame) -> tuple[float, float]:
    spread = of_model.top1_percent_std.fillna(0)
    low, high = (of_model.top1_percent - spread).min(), (of_model.top1_percent + spread).max()
    pad = max(high - low, 0.5) * 0.06
    return low - pad, high + pad


def _draw_panel(axes: Axes, nets: pd.DataFrame, styles: dict[str, LineStyle]) -> None:
    dense = records(where(nets, nets.method == DENSE))[0]
    _draw_x_axis(axes, nets)
    axes.grid(axis="y")
    axes.axhline(dense.top1_percent, color=INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1.5)
    if not pd.isna(dense.top1_percent_std):
        low, high = (dense.top1_percent + sign * dense.top1_percent_std for sign in (-1, 1))
        axes.axhspan(low, high, color=FAINT, alpha=0.6, linewidth=0, zorder=0.5)
    ends = [_End(axes.get_xlim()[1], dense.top1_percent, _label(dense), DENSE)]
    names = [name for name in nets.method.unique() if name != DENSE]
    nets = nets.assign(x=_side_by_side(axes, nets))
    for order, name in enumerate(reversed(names)):
        of_name = where(nets, nets.method == name)
        chain = where(of_name, of_name.variant == FINETUNED).sort_values("keep", ascending=False)
        _draw_scratch(axes, where(of_name, of_name.variant == SCRATCH), styles[name], zorder=2.5)
        if chain.empty:
            continue
        _draw_chain(axes, dense, chain, styles[name], zorder=3 + order)
        ends.append(_End(chain.x.iloc[-1], chain.top1_percent.iloc[-1], _label(records(chain)[-1]), name))
    _label_ends(axes, ends, styles)


def _side_by_side(axes: Axes, nets: pd.DataFrame) -> list[float]:
    """What is kept in per cent, moved where markers would coincide; dense-longer stands at its level."""
    kept = nets.kept_percent.where(nets.method != DENSE_LONGER, nets.keep * 100)
    inches = axes.transData + axes.figure.dpi_scale_trans.inverted()
    points = [(float(x), float(y)) for x, y in inches.transform(list(zip(kept, nets.top1_percent, strict=True)))]
    moved = dodge(points, _HIDDEN, _BESIDE, _WIDEST)
    back = inches.inverted().transform([(x, y) for x, (_, y) in zip(moved, points, strict=True)])
    return [old if new == at else float(x) for old, new, (at, _), (x, _) in zip(kept, moved, points, back, strict=True)]


def _draw_chain(axes: Axes, dense: Any, chain: pd.DataFrame, style: LineStyle, zorder: float) -> None:
    control = (chain.method == DENSE_LONGER).all()
    axes.errorbar(
        [100.0, *chain.x],
        [dense.top1_percent, *chain.top1_percent],
        yerr=[0.0, *chain.top1_percent_std.fillna(0)] if chain.top1_percent_std.notna().any() else None,
        color=style.color,
        marker=style.marker,
        linestyle=(0, (1, 1.4)) if control else "-",
        markeredgecolor="white",
        elinewidth=0.9,
        capsize=2.2,
        capthick=0.9,
        markevery=slice(1, None),
        zorder=zorder,
    )
    axes.plot([100.0], [dense.top1_percent], marker="o", color=INK, markeredgecolor="white", zorder=20)


def _draw_scratch(axes: Axes, nets: pd.DataFrame, style: LineStyle, zorder: float) -> None:
    axes.errorbar(
        nets.x,
        nets.top1_percent,
        yerr=nets.top1_percent_std if nets.top1_percent_std.notna().any() else None,
        color=style.color,
        marker=style.marker,
        linestyle="none",
        markerfacecolor="none",
        markeredgecolor=style.color,
        markeredgewidth=1.1,
        elinewidth=0.7,
        zorder=zorder,
    )


def _draw_x_axis(axes: Axes, nets: pd.DataFrame) -> None:
    """From dense at the left to small at the right, ticks at the levels as far as their numbers fit."""
    levels = sorted({100.0, *(round(level * 100, 6) for level in nets.keep)}, reverse=True)
    smallest = min([*levels, nets.kept_percent.min()])
    logarithmic = smallest < _LOG_BELOW
    if logarithmic:
        axes.set_xscale("log")
        pad = (100 / smallest) ** 0.03
        axes.set_xlim(100 * pad, smallest / pad)
    else:
        pad = max(100 - smallest, 1.0) * 0.03
        axes.set_xlim(100 + pad, smallest - pad)
    left, right = axes.get_xlim()

    def place(level: float) -> float:
        if logarithmic:
            return math.log(left / level) / math.log(left / right) * _WIDTH
        return (left - level) / (left - right) * _WIDTH

    shown = [levels[0]]
    for level in levels[1:]:
        if place(level) - place(shown[-1]) >= 0.3:
            shown.append(level)
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(shown, [f"{level:g}" for level in shown])


def _label_ends(axes: Axes, ends: list[_End], styles: dict[str, LineStyle]) -> None:
    """Write each line's name beside its end, moved apart where they would overlap, with a leader from the end."""
    low, high = axes.get_ylim()
    places = spread_labels([end.y for end in ends], (high - low) * 0.155 / _HEIGHT, low, high)
    beside = axes.get_yaxis_transform()
    for end, place in zip(ends, places, strict=True):
        style = styles[end.name]
        x = axes.transAxes.inverted().transform(axes.transData.transform((end.x, end.y)))[0]
        axes.plot(
            [x, 1.0, 1.035, 1.05],
            [end.y, end.y, place, place],
            transform=beside,
            color=style.color,
            linewidth=0.6,
            clip_on=False,
            zorder=2,
        )
        axes.plot(
            [1.07],
            [place],
            transform=beside,
            color=style.color,
            marker=style.marker,
            markersize=4.5,
            markeredgecolor="white",
            clip_on=False,
        )
        axes.text(
            1.095,
            place,
            end.label,
            transform=beside,
            color=style.color,
            fontsize=_LABEL,
            fontweight="bold" if end.name == DENSE else "normal",
            va="center_baseline",
        )

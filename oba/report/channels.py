"""The picture of where pruning cuts: channels or weights kept in every layer, level by level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from oba.report.granularity import WEIGHTS
from oba.report.kept import read_kept
from oba.report.net import FINETUNED, Net, seeds_of
from oba.report.sheet import HEADING, heading_width, new_figure, place_axes, text_width, write_at, write_title
from oba.report.style import ALARM, INK, MUTED, SMALL, in_order

_ROW, _COLUMN, _GAP = 0.165, 0.4, 0.24
_TOP, _BOTTOM = 0.58, 0.14
_WIDEST = 13.0
_HEAD = HEADING + 0.14
_KEY = 5.2
"""Width in inches that the key of colours and marks takes."""
_TEXT, _HEADING = 6.5, 8.5
_FEW = 0.1
"""Layers that keep a smaller fraction are marked."""
_COLORS: Colormap = LinearSegmentedColormap.from_list("kept", ["#08306b", "#2f79b5", "#9ecae1", "#f4f8fb"])


class _Words(NamedTuple):
    """What the map shows, in words: what is counted, what the numbers are, what the key says."""

    noun: str
    numbers: str
    key: str


_CHANNELS = _Words("channels", "channels left", "channels kept")
_WEIGHTS = _Words("weights", "per cent of the weights left", "weights kept")
_BOTH = _Words("channels and weights", "channels left, or per cent of the weights", "kept")


@dataclass(frozen=True)
class _Panel:
    """One method and schedule of one model: means over seeds, layers by levels; what is written, and what is drawn."""

    heading: str
    levels: list[float]
    numbers: np.ndarray
    fraction: np.ndarray

    @property
    def pitch(self) -> float:
        """Inches from its left edge to that of the next one: levels or heading, whichever is wider."""
        return max(len(self.levels) * _COLUMN, text_width(self.heading, _HEADING)) + _GAP


@dataclass(frozen=True)
class _Block:
    """One model, as methods of one granularity leave it."""

    heading: str
    layers: list[str]
    dense: list[int]
    panels: list[_Panel]
    words: _Words


def draw_channels(nets: Sequence[Net], title: str) -> Figure:
    """Draw a map of layers by levels for every method, darker where less is left.

    Where single weights went, numbers are per cent of a layer's weights.

    Args:
        nets: The finished nets.
        title: Name of the experiment.

    Returns:
        The figure; numbers are means over seeds, marked below a tenth of the dense net's.
    """
    blocks = [block for model in in_order(nets, "model") for block in _blocks(nets, model)]
    rows = [(block, panels) for block in blocks for panels in _wrapped(block.panels)]
    names = max((text_width(layer, 7.5) for block in blocks for layer in block.layers), default=0.5)
    left = 0.15 + names + 0.55
    heights = [_TOP + len(block.layers) * _ROW + _BOTTOM for block, _ in rows]
    widths = [sum(panel.pitch for panel in panels) for _, panels in rows]
    seeds = seeds_of(net for net in nets if net.variant == FINETUNED and net.is_pruned)
    over = f" (mean over {seeds} seeds)" if seeds else ""
    coupled = any(layer.endswith(")") for block in blocks for layer in block.layers)
    more = " (+n): and n layers coupled to it." if coupled else ""
    kinds = {block.words for block in blocks}
    words = kinds.pop() if len(kinds) == 1 else _BOTH
    heading = f"{title}: {words.noun} kept in every layer"
    subtitle = f"Columns: levels of keep. Numbers: {words.numbers}{over}.{more}"
    width = max(left + max(widths), _KEY, heading_width(heading, subtitle))
    figure = new_figure(width, _HEAD + sum(heights) + 0.1)
    write_title(figure, 0.15, heading, subtitle)
    _draw_key(figure, words)
    top = _HEAD
    for (block, panels), height in zip(rows, heights, strict=True):
        write_at(figure, 0.15, top + 0.08, block.heading, fontsize=9.5, fontweight="bold")
        _draw_row(figure, left, top + _TOP, block, panels)
        top += height
    return figure


def _blocks(nets: Sequence[Net], model: str) -> Iterator[_Block]:
    """Make the blocks of one model: of methods that remove structures, if there are any, and of the others."""
    for kept in read_kept(nets, model):
        masked = kept.granularity == WEIGHTS
        panels = list(_panels(kept.left, kept.dense, percent=masked))
        heading, words = (f"{model}, weights", _WEIGHTS) if masked else (model, _CHANNELS)
        yield _Block(heading, kept.names, list(kept.dense.values()), panels, words)


def _panels(kept: Mapping[Net, Mapping[str, int]], dense: Mapping[str, int], percent: bool) -> Iterator[_Panel]:
    """Make the panels of some nets, of which so much is left by layer."""
    nets = list(kept)
    whole = np.array(list(dense.values()), dtype=float)[:, None]
    schedules = in_order(nets, "schedule")
    for schedule, method in product(schedules, in_order(nets, "method")):
        chain = [net for net in nets if net.method == method and net.schedule == schedule]
        levels = sorted({net.keep for net in chain}, reverse=True)
        if levels:
            seeds = [[[kept[net][n] for n in dense] for net in chain if net.keep == level] for level in levels]
            left = np.array([np.mean(counts, axis=0) for counts in seeds]).T
            heading = f"{method}, {schedule}" if len(schedules) > 1 else method
            yield _Panel(heading, levels, 100 * left / whole if percent else left, left / whole)


def _wrapped(panels: Sequence[_Panel]) -> Iterator[list[_Panel]]:
    """Break a model's panels into rows that fit the page; a model without any has one empty row."""
    row: list[_Panel] = []
    width = 0.0
    for panel in panels:
        if row and width + panel.pitch > _WIDEST:
            yield row
            row, width = [], 0.0
        row.append(panel)
        width += panel.pitch
    if row or not panels:
        yield row


def _draw_row(figure: Figure, left: float, top: float, block: _Block, panels: Sequence[_Panel]) -> None:
    height = len(block.layers) * _ROW
    if not block.layers:
        write_at(figure, left, top, "no layer lost a channel", fontsize=SMALL, color=MUTED)
        return
    write_at(figure, left - 0.08, top - 0.035, "dense", fontsize=7, color=MUTED, ha="right", va="bottom")
    for index, (layer, size) in enumerate(zip(block.layers, block.dense, strict=True)):
        middle = top + (index + 0.5) * _ROW
        write_at(figure, left - 0.5, middle, layer, fontsize=7.5, ha="right", va="center_baseline")
        write_at(figure, left - 0.08, middle, f"{size}", fontsize=7, color=MUTED, ha="right", va="center_baseline")
    for panel in panels:
        axes = place_axes(figure, left, top, len(panel.levels) * _COLUMN, height)
        _draw_panel(axes, panel)
        left += panel.pitch


def _draw_panel(axes: Axes, panel: _Panel) -> None:
    rows, columns = panel.fraction.shape
    axes.pcolormesh(panel.fraction, cmap=_COLORS, vmin=0, vmax=1, edgecolors="white", linewidth=0.8)
    axes.set_ylim(rows, 0)
    for row in range(rows):
        for column in range(columns):
            fraction = panel.fraction[row, column]
            # What is written as 10 % is not marked as less.
            few = round(fraction, 2) < _FEW
            axes.text(
                column + 0.5,
                row + 0.5,
                f"{panel.numbers[row, column]:.0f}",
                color=_readable_on(_COLORS(fraction)),
                fontsize=_TEXT,
                fontweight="bold" if few else "normal",
                ha="center",
                va="center_baseline",
            )
            if few:
                axes.add_patch(
                    Rectangle((column + 0.06, row + 0.1), 0.88, 0.8, fill=False, edgecolor=ALARM, linewidth=1.5)
                )
    axes.set_xticks(np.arange(columns) + 0.5, [f"{level:.2f}" for level in panel.levels], fontsize=7)
    axes.set_yticks([])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=1.5)
    axes.spines[:].set_visible(False)
    axes.set_title(panel.heading, loc="left", fontsize=_HEADING, pad=4)


def _readable_on(color: tuple[float, float, float, float]) -> str:
    """Return the text colour of higher contrast, by relative luminance (WCAG)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
    return INK if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.2 else "white"


def _draw_key(figure: Figure, words: _Words) -> None:
    """Explain colours and marks in one row under the heading."""
    top = HEADING - 0.02
    write_at(figure, 0.15, top, f"{words.key}  0 %", fontsize=SMALL, va="center")
    axes = place_axes(figure, 1.2, top - 0.055, 1.3, 0.11)
    axes.imshow(np.linspace(0, 1, 128)[None, :], cmap=_COLORS, aspect="auto")
    axes.set_axis_off()
    write_at(figure, 2.56, top, "100 %", fontsize=SMALL, va="center")
    mark = place_axes(figure, 3.25, top - 0.06, 0.3, 0.12)
    mark.add_patch(Rectangle((0.03, 0.08), 0.94, 0.84, facecolor=_COLORS(0.05), edgecolor=ALARM, linewidth=1.5))
    mark.set_axis_off()
    write_at(figure, 3.63, top, f"fewer than {_FEW * 100:.0f} % kept", fontsize=SMALL, va="center")

"""The summary as Markdown and for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from oba.report.frames import records, where
from oba.report.granularity import WEIGHTS, granularities, of_granularity
from oba.report.net import SCRATCH
from oba.report.notes import missing_nets, notes

_MANY_SEEDS = 5
"""Seeds from which means are known well enough for a second decimal."""


def summary_markdown(summary: pd.DataFrame, runs: pd.DataFrame, title: str) -> str:
    """Return the summary as a Markdown page.

    Args:
        summary: The table of :func:`oba.report.summarize.summarize`.
        runs: The table of :func:`oba.report.collect.collect`.
        title: Heading of the page.

    Returns:
        Headings, one table per model, granularity and schedule, notes, what is missing and why, and the pictures.
    """
    lines = [f"# {title}", ""]
    for heading, part, granularity in _sections(summary):
        header = _header(part, granularity)
        lines += [f"## {heading}", "", _row(header), _row(["---:", ":---", *["---:"] * (len(header) - 2)])]
        lines += [_row(cells) for cells in _cells(part, summary, granularity)]
        lines += [""]
    lines += [f"- {note}" for note in notes(summary, runs)]
    if missing := missing_nets(runs):
        lines += ["", "## Missing", "", *(f"- {net}" for net in missing)]
    lines += ["", "![Test accuracy against what is kept](tradeoff.png)"]
    lines += ["", "![What is kept of every layer](channels.png)"]
    lines += ["", "![Accuracy and loss while training](curves.png)", ""]
    return "\n".join(lines)


def print_table(summary: pd.DataFrame, runs: pd.DataFrame, console: Console) -> None:
    """Print the summary, its notes, and what is missing and why.

    Args:
        summary: The table of :func:`oba.report.summarize.summarize`.
        runs: The table of :func:`oba.report.collect.collect`.
        console: Where to; 100 columns suffice.
    """
    for heading, part, granularity in _sections(summary):
        header = _header(part, granularity)
        table = Table(
            title=heading,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for index, name in enumerate(header):
            table.add_column(name, justify="left" if index == 1 else "right", no_wrap=index > 1)
        levels = list(part.keep)
        rows = _cells(part, summary, granularity)
        for cells, level, following in zip(rows, levels, [*levels[1:], None], strict=True):
            table.add_row(*cells, end_section=level != following)
        console.print(table, highlight=False)
    below = Table.grid(padding=(0, 1))
    for note in notes(summary, runs):
        below.add_row("-", Text(note))
    console.print(below, highlight=False)
    if missing := missing_nets(runs):
        gaps = Table.grid(padding=(0, 1))
        for net in missing:
            gaps.add_row("-", Text(net))
        console.print(Text("\nMissing", style="bold"), gaps, highlight=False)


def _header(part: pd.DataFrame, granularity: str) -> list[str]:
    compared = [versus for versus in part.versus if versus]
    last = [f"vs {compared[-1]}"] if compared else []
    kept = ["weights %", "MACs %"] if granularity == WEIGHTS else ["MACs %", "params %"]
    return ["keep", "net", "n", "top-1 %", "drop, points", *kept, "speedup", *last]


def _sections(summary: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Yield a heading, rows and granularity for each model and schedule, the dense net leading each."""
    schedules = [s for s in summary.schedule.unique() if s] or [""]
    of_methods = granularities(summary)
    for model in summary.model.unique():
        of_model = where(summary, summary.model == model)
        for granularity, schedule in product(of_methods, schedules):
            words = [str(model), *[granularity] * (len(of_methods) > 1), *[schedule] * (len(schedules) > 1)]
            part = where(of_model, of_model.schedule.isin(["", schedule]))
            yield ", ".join(words), of_granularity(part, granularity), granularity


def _cells(part: pd.DataFrame, summary: pd.DataFrame, granularity: str) -> list[list[str]]:
    decimals = 2 if summary.seeds.min() >= _MANY_SEEDS else 1
    compared = (part.versus != "").any()
    rows = []
    for row in records(part):
        cells = [
            f"{row.keep:.2f}",
            _net(row),
            f"{row.seeds}",
            _spread(row.top1_percent, row.top1_percent_std, decimals),
            _spread(row.drop_points, row.drop_points_std, decimals),
            *(f"{value:.1f}" for value in _kept(row, granularity)),
            f"{row.speedup:.2f}",
        ]
        if compared:
            cells.append(_spread(row.versus_points, row.versus_points_std, decimals, sign="+"))
        rows.append(cells)
    return rows


def _kept(row: Any, granularity: str) -> tuple[float, float]:
    """Return the per cent that a net keeps: of weights and MACs, or of MACs and parameters."""
    if granularity == WEIGHTS:
        return 100.0 if pd.isna(row.weights_kept_percent) else row.weights_kept_percent, row.macs_kept_percent
    return row.macs_kept_percent, row.parameters_kept_percent


def _net(row: Any) -> str:
    return f"{row.method}, {SCRATCH}" if row.variant == SCRATCH else row.method


def _spread(mean: float, std: float, decimals: int, sign: str = "") -> str:
    """Format a mean and, where there is one, its standard deviation."""
    if pd.isna(mean):
        return ""
    text = f"{mean:{sign}z.{decimals}f}".replace("-", "\N{MINUS SIGN}")
    return text if pd.isna(std) else f"{text} ± {std:.{decimals}f}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"

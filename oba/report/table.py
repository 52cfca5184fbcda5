"""The summary as Markdown and for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from oba.report.frames import records, where
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
        Headings, one table per model and schedule, notes, what is missing and why, and the pictures.
    """
    lines = [f"# {title}", ""]
    header = _header(summary)
    for heading, part in _sections(summary):
        lines += [f"## {heading}", "", _row(header), _row(["---:", ":---", *["---:"] * (len(header) - 2)])]
        lines += [_row(cells) for cells in _cells(part, summary)]
        lines += [""]
    lines += [f"- {note}" for note in notes(summary, runs)]
    if missing := missing_nets(runs):
        lines += ["", "## Missing", "", *(f"- {net}" for net in missing)]
    lines += ["", "![Test accuracy against MACs kept](tradeoff.png)"]
    lines += ["", "![Channels kept in every layer](channels.png)"]
    lines += ["", "![Accuracy and loss while training](curves.png)", ""]
    return "\n".join(lines)


def print_table(summary: pd.DataFrame, runs: pd.DataFrame, console: Console) -> None:
    """Print the summary, its notes, and what is missing and why.

    Args:
        summary: The table of :func:`oba.report.summarize.summarize`.
        runs: The table of :func:`oba.report.collect.collect`.
        console: Where to; 100 columns suffice.
    """
    header = _header(summary)
    for heading, part in _sections(summary):
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
        for cells, level, following in zip(_cells(part, summary), levels, [*levels[1:], None], strict=True):
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


def _header(summary: pd.DataFrame) -> list[str]:
    compared = summary.versus[summary.versus != ""]
    last = [f"vs {compared.iloc[0]}"] if len(compared) else []
    return ["keep", "net", "n", "top-1 %", "drop, points", "MACs %", "params %", "speedup", *last]


def _sections(summary: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield a heading and rows for each model and schedule, the dense net leading each."""
    schedules = [s for s in summary.schedule.unique() if s] or [""]
    for model in summary.model.unique():
        of_model = where(summary, summary.model == model)
        for schedule in schedules:
            heading = f"{model}, {schedule}" if len(schedules) > 1 else str(model)
            yield heading, where(of_model, of_model.schedule.isin(["", schedule]))


def _cells(part: pd.DataFrame, summary: pd.DataFrame) -> list[list[str]]:
    decimals = 2 if summary.seeds.min() >= _MANY_SEEDS else 1
    compared = (summary.versus != "").any()
    rows = []
    for row in records(part):
        cells = [
            f"{row.keep:.2f}",
            _net(row),
            f"{row.seeds}",
            _spread(row.top1_percent, row.top1_percent_std, decimals),
            _spread(row.drop_points, row.drop_points_std, decimals),
            f"{row.macs_kept_percent:.1f}",
            f"{row.parameters_kept_percent:.1f}",
            f"{row.speedup:.2f}",
        ]
        if compared:
            cells.append(_spread(row.versus_points, row.versus_points_std, decimals, sign="+"))
        rows.append(cells)
    return rows


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

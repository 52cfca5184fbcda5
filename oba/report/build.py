"""The whole report: tables and pictures, each written atomically."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from oba.files import write_atomic, write_text
from oba.report.channels import draw_channels
from oba.report.collect import Cell, collect
from oba.report.curves import draw_curves
from oba.report.page import save_picture
from oba.report.style import styled
from oba.report.summarize import summarize
from oba.report.table import summary_markdown
from oba.report.tradeoff import draw_tradeoff


def build_report(cells: Sequence[Cell], directory: Path, first_criterion: str, title: str) -> list[Path]:
    """Write tables and pictures of a sweep.

    Args:
        cells: The evaluated nets, in the order of the study; each a mapping with ``model``, ``seed``, ``criterion``,
            ``schedule``, ``keep``, ``variant`` and ``directory``.
        directory: Where to write.
        first_criterion: The criterion that all others are compared with.
        title: Name of the experiment.

    Returns:
        ``runs.csv``, ``summary.csv``, ``summary.md``, ``tradeoff.png``, ``channels.png``, ``curves.png``.
    """
    runs = collect(cells)
    summary = summarize(runs, first_criterion)
    drawings: dict[str, Callable[[], Figure]] = {
        "tradeoff.png": lambda: draw_tradeoff(summary, title),
        "channels.png": lambda: draw_channels(cells, title),
        "curves.png": lambda: draw_curves(cells, title),
    }
    texts = {
        "runs.csv": runs.to_csv(index=False, lineterminator="\n"),
        "summary.csv": summary.to_csv(index=False, lineterminator="\n", float_format="%.6g"),
        "summary.md": summary_markdown(summary, runs, title),
    }
    for name, text in texts.items():
        write_text(directory / name, text)
    for name, draw in drawings.items():
        with styled():
            figure = draw()
            write_atomic(directory / name, lambda path, figure=figure: save_picture(figure, path))
    return [directory / name for name in (*texts, *drawings)]

"""The whole report: tables, pictures and the page, each written atomically."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from oba.files import write_atomic, write_text
from oba.report.channels import draw_channels
from oba.report.collect import finished_nets
from oba.report.curves import draw_curves
from oba.report.net import Net
from oba.report.page.facts import Facts
from oba.report.page.payload import payload
from oba.report.page.render import render
from oba.report.sheet import save_picture
from oba.report.style import styled
from oba.report.summarize import summarize
from oba.report.table import summary_markdown
from oba.report.tradeoff import draw_tradeoff


def build_report(
    nets: Sequence[Net],
    runs: pd.DataFrame,
    directory: Path,
    first_methods: Sequence[str],
    title: str,
    facts: Facts,
) -> list[Path]:
    """Write tables, pictures and the page of a sweep.

    Args:
        nets: The nets of the sweep, in the order of the study; those that ``runs`` calls missing are left out.
        runs: The table of these nets, as :func:`oba.report.collect.collect` made it.
        directory: Where to write.
        first_methods: The methods that the others are compared with, the study's first one first.
        title: Name of the experiment.
        facts: The study, the images and the jobs, for the page.

    Returns:
        ``summary.csv``, ``summary.md``, ``index.html``, ``tradeoff.png``, ``channels.png``, ``curves.png``.
    """
    # Rounded as the file is, or a half would be rounded one way here and the other way where the file is read.
    summary = summarize(runs, *first_methods).map(lambda v: float(f"{v:.6g}") if isinstance(v, float) else v)
    drawn = finished_nets(nets, runs)
    texts = {
        "summary.csv": summary.to_csv(index=False, lineterminator="\n", float_format="%.6g"),
        "summary.md": summary_markdown(summary, runs, title),
        "index.html": render(payload(nets, runs, summary, title, facts)),
    }
    with styled():
        figures = {
            "tradeoff.png": draw_tradeoff(summary, title),
            "channels.png": draw_channels(drawn, title),
            "curves.png": draw_curves(drawn, title),
        }
        for name, text in texts.items():
            write_text(directory / name, text)
        for name, figure in figures.items():
            write_atomic(directory / name, partial(save_picture, figure))
    return [directory / name for name in (*texts, *figures)]

"""``report``: tables and pictures from the collected measures."""

from __future__ import annotations

from oba.config import Study
from oba.layout import Layout, first_methods, nets
from oba.report.build import build_report
from oba.report.collect import read_runs
from oba.report.net import Net


def run(study: Study) -> None:
    """Write the report's files."""
    layout = Layout(study.experiment)
    runs = read_runs(layout.report / "runs.csv")
    named = [Net.of(at, layout.net(at)) for at in nets(study)]
    build_report(named, runs, layout.report, first_methods(study), study.experiment)

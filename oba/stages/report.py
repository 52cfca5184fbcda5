"""``report``: tables and pictures from the collected measures."""

from __future__ import annotations

from oba.config import Study
from oba.layout import Layout, report_rows


def run(study: Study) -> None:
    """Write the report's files."""
    from oba.report.build import build_report
    from oba.report.collect import read_runs

    layout = Layout(study.experiment)
    runs = read_runs(layout.report / "runs.csv")
    build_report(report_rows(study, layout), runs, layout.report, study.methods[0].name, study.experiment)

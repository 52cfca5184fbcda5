"""``report``: tables and pictures from the collected measures."""

from __future__ import annotations

from oba.config import Study
from oba.layout import Layout, report_rows


def run(study: Study) -> None:
    """Write the report's files."""
    from oba.report.build import build_report

    layout = Layout(study.experiment)
    build_report(report_rows(study, layout), layout.report, first_criterion=study.criteria[0], title=study.experiment)

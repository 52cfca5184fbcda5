"""``collect``: gather the measures of all nets of a sweep into one table, one row per net."""

from __future__ import annotations

from oba.config import Study
from oba.files import write_text
from oba.layout import Layout, report_rows


def run(study: Study) -> None:
    """Write ``runs.csv``."""
    from oba.report.collect import collect

    layout = Layout(study.experiment)
    runs = collect(report_rows(study, layout))
    write_text(layout.report / "runs.csv", runs.to_csv(index=False, lineterminator="\n"))

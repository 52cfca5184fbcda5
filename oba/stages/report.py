"""``report``: tables, pictures and the page from the collected measures."""

from __future__ import annotations

from oba.config import Study
from oba.layout import Layout, first_methods, nets
from oba.report.build import build_report
from oba.report.collect import finished_nets, read_runs
from oba.report.net import Net
from oba.report.rewriting import rewriting
from oba.stages.overview import facts_of
from oba.stages.repair import check_reported


def run(study: Study) -> None:
    """Write the report's files."""
    layout = Layout(study.experiment)
    with rewriting(layout.report, layout.state(layout.report)):
        runs = read_runs(layout.report / "runs.csv")
        named = {Net.of(at, layout.net(at)): at for at in nets(study)}
        check_reported(layout, [named[net] for net in finished_nets(list(named), runs)])
        build_report(list(named), runs, layout.report, first_methods(study), study.experiment, facts_of(study, layout))

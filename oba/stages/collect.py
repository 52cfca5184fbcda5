"""``collect``: gather the measures of all nets of a sweep into one table, one row per net."""

from __future__ import annotations

import os

from oba.config import Study
from oba.dag import STAGES
from oba.files import write_text
from oba.gaps import find_gaps
from oba.layout import Coordinates, Layout, nets
from oba.made import read_run
from oba.records import Duplicates
from oba.report.collect import collect
from oba.report.net import Net
from oba.report.rewriting import rewriting
from oba.stages.losses import mend_records
from oba.stages.repair import check_reported


def run(study: Study) -> None:
    """Write ``runs.csv``; nets that are missing have a row that says why."""
    layout = Layout(study.experiment)
    with rewriting(layout.report, layout.state(layout.report)):
        missing = find_gaps(study, layout).reasons
        if missing and mend_records(study, layout):
            missing = find_gaps(study, layout).reasons
        check_reported(layout, [at for at in nets(study) if at not in missing])
        named = {at: Net.of(at, layout.net(at)) for at in nets(study)}
        reasons = {named[at]: reason for at, reason in missing.items()}
        runs = collect(list(named.values()), reasons, _duplicates(study, layout))
        path = layout.report / "runs.csv"
        write_text(path, runs.to_csv(index=False, lineterminator="\n"))
    if missing:
        # Older than all that it is made from, so that Snakemake makes it again; a time of 0 is none to Snakemake.
        os.utime(path, (1, 1))


def _duplicates(study: Study, layout: Layout) -> dict[int, Duplicates]:
    """Return what the splits of each seed say of identical images."""
    records = {seed: STAGES["split"].record(layout, Coordinates(seed=seed)) for seed in study.seeds}
    found = {seed: read_run(path).duplicates for seed, path in records.items() if path.exists()}
    return {seed: duplicates for seed, duplicates in found.items() if duplicates}

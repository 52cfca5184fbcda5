"""``collect``: gather the measures of all nets of a sweep into one table, one row per net."""

from __future__ import annotations

import os

from oba.config import Study
from oba.dag import STAGES
from oba.files import read_record, write_text
from oba.gaps import find_gaps
from oba.layout import Coordinates, Layout, nets
from oba.records import Duplicates, Run
from oba.report.collect import collect
from oba.report.net import Net


def run(study: Study) -> None:
    """Write ``runs.csv``; nets that are missing have a row that says why."""
    layout = Layout(study.experiment)
    named = {at: Net.of(at, layout.net(at)) for at in nets(study)}
    missing = {named[at]: reason for at, reason in find_gaps(study, layout).reasons.items()}
    runs = collect(list(named.values()), missing, _duplicates(study, layout))
    path = layout.report / "runs.csv"
    write_text(path, runs.to_csv(index=False, lineterminator="\n"))
    if missing:
        # Older than all that it is made from, so that Snakemake makes it again; a time of 0 is none to Snakemake.
        os.utime(path, (1, 1))


def _duplicates(study: Study, layout: Layout) -> dict[int, Duplicates]:
    """Return what the splits of each seed say of identical images."""
    records = {seed: STAGES["split"].record(layout, Coordinates(seed=seed)) for seed in study.seeds}
    found = {seed: read_record(path, Run).duplicates for seed, path in records.items() if path.exists()}
    return {seed: duplicates for seed, duplicates in found.items() if duplicates}

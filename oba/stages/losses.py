"""What a sweep had and lost, found at the start of a run by the times of files alone.

Snakemake looks at what its targets need: it does not miss a net whose report is there. So before it plans, each
finished job's outputs are asked for. One that is gone, or newer than the job's record, which is written last, is
compared with its digest, and put back if it was lost or damaged. What cannot be put back has to be made again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from oba.config import Study
from oba.errors import FileError
from oba.files import locked
from oba.jobs import planned_jobs
from oba.layout import Layout
from oba.made import read_run
from oba.stages.finished import intact
from oba.stages.repair import is_record, mend

_NAMED = 10


def find_lost(study: Study, layout: Layout, *, repair: bool) -> list[Path]:
    """Find outputs that were made before and are lost or damaged.

    Args:
        study: The study.
        layout: Its paths.
        repair: Whether to put back what can be put back, and to move damaged files aside. Jobs that somebody else is
            working on are left alone.

    Returns:
        Files that have to be made again.
    """
    reported = (layout.report / "summary.md").exists()
    lost: list[Path] = []
    kept: list[Path] = []
    for job in planned_jobs(study):
        outputs, extras = job.stage.leaves(study, layout, job.at), job.stage.extras(study, layout, job.at)
        suspects = [path for path in _suspects(outputs) if path not in extras or _was_said(path, outputs[-1])]
        state = layout.state(outputs[-1])
        if not suspects or not (reported or _was_made(outputs, state)):
            continue
        if repair:
            gone = _repaired(suspects, outputs, state)
        else:
            missing = [path for path in suspects if not path.exists()]
            back = [path for path in missing if intact(path, state)]
            kept += back
            gone = [path for path in missing if path not in back]
        # Of extras Snakemake knows nothing: the record stands for them.
        lost += dict.fromkeys(outputs[-1] if path in extras else path for path in gone)
    if kept:
        sys.stderr.write(f"A run puts back {len(kept)} lost files: {_named(kept)}\n")
    return lost


def mend_records(study: Study, layout: Layout) -> bool:
    """Put back records of finished jobs that are damaged.

    Args:
        study: The study.
        layout: Its paths.

    Returns:
        Whether there were any.

    Raises:
        FileError: If there is no intact copy of one; it has been moved aside.
    """
    records = [job.stage.record(layout, job.at) for job in planned_jobs(study)]
    damaged = [record for record in records if record.exists() and not is_record(record)]
    for record in damaged:
        with locked(layout.state(record)):
            if mend([], record, layout.state(record)):
                raise FileError(f"{record}: damaged, and no intact copy is kept; run again: its job runs again")
    return bool(damaged)


def _suspects(outputs: Sequence[Path]) -> list[Path]:
    """Return those of a job's outputs that are gone, or newer than its record."""
    times = [_time(path) for path in outputs]
    return [path for path, time in zip(outputs, times, strict=True) if time < 0 or time > times[-1]]


def _was_made(outputs: Sequence[Path], state: Path) -> bool:
    """Tell whether there is a trace of a job: some of what it left, or what was kept of it."""
    return any(path.exists() for path in outputs) or any(state.glob("*-finished"))


def _was_said(path: Path, record: Path) -> bool:
    """Tell whether a job left a file that not every study wants, as far as can be told."""
    try:
        return path.name in read_run(record).outputs
    except FileError:
        return True


def _time(path: Path) -> int:
    """Return when a file was written, -1 if it is not there."""
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return -1


def _repaired(suspects: list[Path], outputs: list[Path], state: Path) -> list[Path]:
    """Put back what can be; return the rest."""
    record = outputs[-1]
    with locked(state, wait=False) as held:
        if not held:
            return []
        lost = mend(suspects if record.exists() else outputs, record, state)
        if not lost:
            # What was only touched is as old as before: nothing that was made of it is out of date.
            time = os.stat(record)
            for path in set(suspects) - {record}:
                os.utime(path, ns=(time.st_atime_ns, min(os.stat(path).st_mtime_ns, time.st_mtime_ns)))
        return lost


def _named(paths: Sequence[Path]) -> str:
    rest = len(paths) - _NAMED
    return ", ".join(map(str, paths[:_NAMED])) + (f" and {rest} more" if rest > 0 else "")

"""Which jobs of a study are done and up to date: asked of their records, and of the files that they wrote and read.

A job is if its outputs are there, its record agrees with the study, and the files that it read are those of then, made
by jobs of which the same is true; but what nobody reads of their outputs, such as images after the work, may be gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from oba.errors import FileError
from oba.files import digest_file
from oba.jobs import Jobs, PlannedJob, planned_jobs
from oba.made import read_run


@dataclass(frozen=True)
class _Made:
    """What a record says of the job that left it, compared with the study as it is."""

    time: int
    agrees: bool
    seconds: float
    inputs: dict[str, str]


class UpToDate:
    """The jobs of a study, by their records, to be looked at again and again: what was read of a record is kept."""

    def __init__(self, jobs: Jobs, *, code: bool) -> None:
        """Look at nothing yet.

        Args:
            jobs: The jobs of the study.
            code: Whether a job counts as out of date when its code has changed since.
        """
        self._jobs, self._code = jobs, code
        self.planned: dict[str, PlannedJob] = {}
        """All jobs, stage by stage, by their records."""
        self._writes: dict[str, list[str]] = {}
        for job in planned_jobs(jobs.study):
            files = [str(path) for path in job.stage.writes(jobs.layout, job.at)]
            self.planned[files[-1]], self._writes[files[-1]] = job, files
        self._makers = {path: record for record, files in self._writes.items() for path in files}
        self._made: dict[str, _Made] = {}
        self._digests: dict[tuple[str, int], str] = {}
        self.forget()

    def forget(self) -> None:
        """Forget what may have changed since the last look."""
        self._times: dict[str, int] = {}
        self._found: dict[str, bool] = {}

    def __contains__(self, record: str) -> bool:
        """Tell whether a job is up to date."""
        return all(self.written(path) >= 0 for path in self._writes[record]) and self._agrees(record)

    def is_recorded(self, record: str) -> bool:
        """Tell whether a job left a record, with whatever settings."""
        return self.written(record) >= 0

    def seconds(self, record: str) -> float:
        """Return what a job took that left a record."""
        made = self._read(record)
        return made.seconds if made else 0.0

    def upstream(self, record: str) -> Iterator[str]:
        """Return the records of the jobs whose results a job needs."""
        job = self.planned[record]
        needs = [files(self._jobs.study, self._jobs.layout, job.at) for files in (job.stage.reads, job.stage.after)]
        files = (str(path) for found in needs for paths in found.values() for path in paths)
        return iter(dict.fromkeys(self._makers[path] for path in files if path in self._makers))

    def written(self, path: str) -> int:
        """Return when a file was written, in nanoseconds; -1 if it is not there."""
        if path not in self._times:
            try:
                self._times[path] = os.stat(path).st_mtime_ns
            except OSError:
                self._times[path] = -1
        return self._times[path]

    def _agrees(self, record: str) -> bool:
        if record not in self._found:
            made, job = self._read(record), self.planned[record]
            reads = job.stage.reads(self._jobs.study, self._jobs.layout, job.at) if made and made.agrees else {}
            self._found[record] = (
                made is not None
                and made.agrees
                and all(self._is_as_read(str(path), made) for paths in reads.values() for path in paths)
            )
        return self._found[record]

    def _is_as_read(self, path: str, made: _Made) -> bool:
        """Tell whether a file is the one that a job read; one that is older than the job's record need not be read."""
        digest, written = made.inputs.get(path), self.written(path)
        if digest is None or written < 0:
            return False
        if written > made.time and self._digest(path, written) != digest:
            return False
        maker = self._makers.get(path)
        return maker is None or self._agrees(maker)

    def _digest(self, path: str, written: int) -> str:
        if (path, written) not in self._digests:
            try:
                self._digests[path, written] = digest_file(Path(path))
            except FileError:
                return ""
        return self._digests[path, written]

    def _read(self, record: str) -> _Made | None:
        """Read a record, if it is there and another than when it was read last."""
        written = self.written(record)
        known = self._made.get(record)
        if written < 0 or (known is not None and known.time == written):
            return known if written >= 0 else None
        stage, at = self.planned[record].stage, self.planned[record].at
        try:
            run = read_run(Path(record))
        except FileError:
            known = _Made(written, False, 0.0, {})  # damaged: the next run makes it again
        else:
            agrees = run.settings == self._jobs.settings_of(stage, at)
            agrees = agrees and (not self._code or run.code == self._jobs.code_of(stage, at))
            known = _Made(written, agrees, run.seconds, run.inputs)
        self._made[record] = known
        return known

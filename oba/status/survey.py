"""How far every job of a sweep is, asked of records, journals, states and logs: nothing is imported that computes."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path

from oba.config import Study
from oba.gaps import NO_MESSAGE, cause_of, is_stop
from oba.jobs import Jobs, PlannedJob
from oba.layout import Layout, name_of
from oba.locks import last_host, owners
from oba.recover import last_run
from oba.status.cells import Cell, State
from oba.status.estimate import ENOUGH, Durations, sweep_left
from oba.status.looker import Looker, seconds_of
from oba.status.signs import Life, last_sign
from oba.status.words import progress_text
from oba.training.progress import duration
from oba.up_to_date import UpToDate

_START = 600.0
"""Seconds that a job may take from its log's beginning to its journal's: imports, its lock, a free device."""


@dataclass(frozen=True)
class Sweep:
    """All jobs of a study, at one moment.

    Attributes:
        experiment: Its name.
        cells: The jobs, stage by stage.
        host: The machine that the last run was started on; empty if it was this one.
        alive: Whether that run lives, or jobs elsewhere gave a sign of life lately.
        left: Seconds until all is done, if that can be estimated.
    """

    experiment: str
    cells: list[Cell]
    host: str
    alive: bool
    left: float | None

    @property
    def finished(self) -> bool:
        """Whether every job is done."""
        return all(cell.state is State.DONE for cell in self.cells)

    def count(self, state: State) -> int:
        """Return how many jobs are in a state."""
        return sum(cell.state is state for cell in self.cells)


class Survey:
    """The jobs of a study, to be looked at again and again: what was read of finished ones is kept."""

    def __init__(self, study: Study, layout: Layout, workdir: Path) -> None:
        """Plan the sweep.

        Args:
            study: The study as it was resolved when its last run began.
            layout: Its paths.
            workdir: The folder that it runs in.
        """
        self._study, self._layout, self._workdir = study, layout, workdir
        self._jobs = Jobs(study, layout)
        self._done = UpToDate(self._jobs, code=True)
        self._looker = Looker(self._jobs)
        self._cells: dict[str, Cell] = {}
        self._begin()

    def look(self) -> Sweep:
        """Look at every job once.

        Returns:
            How they are now.
        """
        self._begin()
        here, host = socket.gethostname(), last_host(self._workdir)
        note = last_run(self._workdir)
        self._runs = bool(owners(self._workdir)) and (note is None or Path(note.study) == self._layout.study)
        cells = {record: self._cell(record, job) for record, job in self._done.planned.items()}
        if any(cell.state is State.FAILED for cell in cells.values()):
            cells = {record: self._blocked(record, cell, cells) for record, cell in cells.items()}
        found = list(cells.values())
        elsewhere = any(cell.state is State.RUNNING and not cell.silent for cell in found)
        left = sweep_left(found, self._durations(cells))
        return Sweep(self._layout.experiment, found, "" if host == here else host, self._runs or elsewhere, left)

    def _begin(self) -> None:
        """Forget what may change between two looks."""
        self._now, self._runs = time.time(), False
        self._stuck: dict[str, bool] = {}
        self._done.forget()

    def _blank(self, record: str, job: PlannedJob) -> Cell:
        """Return the cell of a job that has not begun."""
        if record not in self._cells:
            stage, at = job.stage, job.at
            name = name_of(stage.module, replace(at, variant=stage.variant or at.variant))
            alone = self._study.job_per == "stage"
            log = self._layout.log(Path(record)) if alone else self._jobs.log(stage, at)
            self._cells[record] = Cell(stage.name, at, name, State.WAITING, log=log)
        return self._cells[record]

    def _cell(self, record: str, job: PlannedJob) -> Cell:
        stage, at, cell = job.stage, job.at, self._blank(record, job)
        if record in self._done:
            return replace(cell, state=State.DONE, seconds=self._done.seconds(record))
        life = self._looker.life(Path(record))
        if life and life.status == "RUNNING" and life.alive is not False:
            return self._running(cell, job, life)
        if self._done.is_recorded(record):
            return replace(cell, state=State.OUTDATED)
        cause = cause_of(cell.log, cell.name)
        if not cause or not all(other in self._done for other in self._done.upstream(record)):
            return cell
        if is_stop(cause):
            return replace(cell, state=State.STOPPED, note=cause)
        fresh = self._now - self._done.written(str(cell.log)) / 1e9 < _START
        if cause == NO_MESSAGE and self._runs and fresh and not (life and life.status == "RUNNING"):
            return replace(cell, state=State.RUNNING, note="starting")
        if life and cause == NO_MESSAGE and (saved := progress_text(self._looker.progress(stage, at, life))):
            cause += f" ({saved})"
        return replace(cell, state=State.FAILED, note=cause)

    def _running(self, cell: Cell, job: PlannedJob, life: Life) -> Cell:
        progress = self._looker.progress(job.stage, job.at, life)
        sign = self._now - last_sign(self._layout, job.stage, job.at, life.key) if life.alive is None else None
        note = progress_text(progress, host=life.host, slurm=life.slurm, sign=sign)
        left, seconds = progress.left, self._now - life.since
        return replace(
            cell, state=State.RUNNING, note=note or f"for {duration(seconds)}", seconds=seconds, left=left, sign=sign
        )

    def _blocked(self, record: str, cell: Cell, cells: dict[str, Cell]) -> Cell:
        """Return the cell as it is for one that knows which jobs failed."""
        waits = cell.state in {State.WAITING, State.OUTDATED}
        return replace(cell, state=State.BLOCKED) if waits and self._is_stuck(record, cells) else cell

    def _is_stuck(self, record: str, cells: dict[str, Cell]) -> bool:
        if record not in self._stuck:
            above = self._done.upstream(record)
            self._stuck[record] = any(
                cells[other].state is State.FAILED
                or (cells[other].state is not State.DONE and self._is_stuck(other, cells))
                for other in above
            )
        return self._stuck[record]

    def _durations(self, cells: dict[str, Cell]) -> Durations:
        """Return what finished jobs took, with their start where it was measured."""
        found, read = Durations(), dict[tuple[str, str], int]()
        for record, cell in reversed(cells.items()):
            if cell.state is State.DONE and read.get(cell.kind, 0) < ENOUGH:
                read[cell.kind] = read.get(cell.kind, 0) + 1
                found.add(cell.kind, self._took(Path(record), cell.seconds or 0.0))
        return found

    def _took(self, record: Path, seconds: float) -> float:
        """Return what a job took by Snakemake's clock, which counts its start as well."""
        if self._study.job_per != "stage":
            return seconds
        return max(seconds, seconds_of(self._layout.times(record)) or 0.0)

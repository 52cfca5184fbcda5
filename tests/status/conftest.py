"""A made-up sweep: empty outputs, but records, journals, states and logs by the project's own writers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oba.config import Study
from oba.dag import STAGES
from oba.files import digest_file, write_json, write_text
from oba.jobs import Jobs, PlannedJob, planned_jobs
from oba.layout import Coordinates, Layout
from oba.made import write_run
from oba.status.cells import Cell
from oba.status.survey import Survey, Sweep
from oba.study import dump_study
from oba.tracking.journal import Journal, RunIdentity
from oba.training.records import EpochRecord
from oba.training.state import TrainState, TrainStates

LEVEL = Coordinates("resnet8", 0, "taylor", "iterative", "0.60")
KEY = "k"


class Made:
    """A sweep in the current folder, of which nothing is done at first."""

    def __init__(self, study: Study) -> None:
        self.study, self.layout = study, Layout(study.experiment)
        self._jobs = Jobs(study, self.layout)
        write_json(self.layout.study, dump_study(study))

    def finish(self, *names: str) -> None:
        """Finish all jobs of some stages, or of all, in an order in which none is newer than what was made of it."""
        for job in planned_jobs(self.study):
            for path in job.stage.writes(self.layout, job.at)[:-1]:
                if job.stage.name in (names or STAGES):
                    write_text(path, "made")
        for job in planned_jobs(self.study):
            if job.stage.name in (names or STAGES):
                self.record(job)

    def record(self, job: PlannedJob, **changes: Any) -> None:
        """Leave a job's record."""
        stage, at = job.stage, job.at
        reads = [path for paths in stage.reads(self.study, self.layout, at).values() for path in paths]
        facts = {"settings": self._jobs.settings_of(stage, at), "code": self._jobs.code_of(stage, at), "seconds": 2.0}
        facts |= {"inputs": {str(path): digest_file(path) for path in reads}, "key": KEY}
        outputs = stage.writes(self.layout, at)
        write_run(outputs[-1], facts | changes, outputs[:-1])

    def begin(self, stage: str, at: Coordinates, **process: Any) -> Journal:
        """Start a job's journal, as this process or, with ``host`` or ``pid``, as another would."""
        journal = Journal(self.journal(stage, at))
        identity = RunIdentity(self.study.experiment, f"{stage}", "name", attempt=KEY)
        if process:
            fields = {"host": os.uname().nodename, "pid": os.getpid(), "job": ""} | process
            journal._attempt = {"attempt": "1"}
            journal.write("start", identity=identity.to_json(), upstream=[], **fields)
        else:
            journal.start(identity)
        return journal

    def journal(self, stage: str, at: Coordinates) -> Path:
        return self.layout.journals / f"{STAGES[stage].place(self.layout, at)}.jsonl"

    def log(self, stage: str, at: Coordinates, text: str) -> None:
        write_text(self.layout.log(STAGES[stage].record(self.layout, at)), text)

    def train(self, stage: str, at: Coordinates, epochs: int) -> None:
        """Save a state after some epochs of ten seconds each."""
        states = TrainStates(self.layout.state(STAGES[stage].record(self.layout, at)) / KEY, "key")
        states.save(TrainState([EpochRecord(n + 1, 0.1, 1.0, 0.5, 1.0, 0.5, 1234.0, 10.0) for n in range(epochs)]))

    def look(self) -> Sweep:
        return Survey(self.study, self.layout, Path.cwd()).look()

    def cell(self, stage: str, at: Coordinates) -> Cell:
        return next(cell for cell in self.look().cells if (cell.stage, cell.at) == (stage, at))


@pytest.fixture
def made(study: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A study of one chain of two levels."""
    monkeypatch.chdir(tmp_path)
    return Made(study(dense={"epochs": 150}, finetune={"epochs": 40}))

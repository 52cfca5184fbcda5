"""What a job that was finished before leaves when it is started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from oba.layout import Coordinates
from oba.stages.job import execute
from oba.study import dump_study
from oba.tracking.journal import read_attempt

JOURNAL = Path("results/tiny/journal/data/run.jsonl")
RECORD = Path("results/tiny/data/run.json")
ROOT = Path(__file__).parents[2]
# Its record is there, and its journal ends before the record is reported.
DIES = """
import os, signal, sys
from oba import cli
from oba.tracking.run import StageRun

StageRun.artifact = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.argv = ["oba", "prepare", "--study", "study.json"]
cli.main()
"""


def test_a_job_that_was_killed_after_its_record_is_reported_as_finished(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = study()
    Path("study.json").write_text(json.dumps(dump_study(tiny)))
    died = subprocess.run([sys.executable, "-c", DIES], env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert died.returncode == -signal.SIGKILL
    before = RECORD.read_bytes(), read_attempt(JOURNAL)
    assert before[1].state[0] == "RUNNING"
    execute("prepare", tiny, Coordinates(), source=Path("study.json"))
    after = read_attempt(JOURNAL)
    assert RECORD.read_bytes() == before[0], "the job is not done again"
    assert (after.id, after.state[0]) == (before[1].id, "FINISHED")
    assert [event.fields["path"] for event in after.events if event.kind == "artifact"][-1] == "tiny/data/run.json"
    size = JOURNAL.stat().st_size
    execute("prepare", tiny, Coordinates(), source=Path("study.json"))
    assert JOURNAL.stat().st_size == size, "once is enough"

"""What a job that was finished before leaves when it is started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oba.layout import Coordinates
from oba.stages.job import execute
from oba.study import dump_study
from oba.tracking.journal import read_attempt

JOURNAL = Path("results/tiny/journal/data/run.jsonl")
RECORD = Path("results/tiny/data/run.json")
ROOT = Path(__file__).parents[2]
AT_ITS_FIRST_REPORT_OF_A_FILE = "oba.tracking.run", "StageRun", "artifact"  # the record, which is there
AT_ITS_FIRST_RENAMING = "pathlib", "Path", "replace"


@pytest.fixture
def tiny(study, tmp_path, monkeypatch):
    """A study in an empty folder, where the process works from now on."""
    monkeypatch.chdir(tmp_path)
    Path("study.json").write_text(json.dumps(dump_study(study())))
    return study()


def kill_prepare(module: str, owner: str, method: str) -> None:
    """Run the stage, and kill it when it calls a method for the first time."""
    code = f"""
import os, signal, sys
from importlib import import_module
from oba import cli

owner = import_module({module!r}).{owner}
owner.{method} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.argv = ["oba", "prepare", "--study", "study.json"]
cli.main()
"""
    died = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert died.returncode == -signal.SIGKILL


def test_a_job_that_was_killed_while_it_wrote_leaves_no_rest(tiny):
    kill_prepare(*AT_ITS_FIRST_RENAMING)
    assert [path for path in RECORD.parent.iterdir() if path.suffix == ".part"]
    execute("prepare", tiny, Coordinates(), source=Path("study.json"))
    assert not [path.name for path in RECORD.parent.iterdir() if path.name.startswith(".")]


def test_a_job_that_was_killed_after_its_record_is_reported_as_finished(tiny):
    kill_prepare(*AT_ITS_FIRST_REPORT_OF_A_FILE)
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

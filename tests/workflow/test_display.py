"""What `oba run` shows: in a pipe, on a terminal that is left with Ctrl-C, and of a job that fails."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from books import runs

from oba.status.command import ENDED, FINISHED, GOES_ON

_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Screen:
    """A terminal on which a command runs, in a session of its own as in a real one."""

    def __init__(self, project, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        environment = project.environment | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
        command = [sys.executable, "-m", "oba", *arguments]
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # also where this process ignores it
        try:
            self.process = subprocess.Popen(
                command,
                cwd=project.root,
                env=environment,
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)
        os.close(theirs)
        self.raw = ""

    @property
    def text(self) -> str:
        return _CODES.sub("", self.raw)

    def read(self) -> bool:
        """Read what there is; tell whether there may be more."""
        try:
            found = os.read(self._ours, 1 << 16)
        except OSError:  # the other end is closed
            return False
        self.raw += found.decode(errors="replace")
        return bool(found)

    def wait_for(self, pattern: str) -> None:
        deadline = time.monotonic() + 600
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, self.text
            assert self.read(), self.text

    def finish(self) -> int:
        while self.read():
            pass
        return self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._ours)


@contextmanager
def screen(project, *arguments: str) -> Iterator[Screen]:
    shown = Screen(project, *arguments)
    try:
        yield shown
    finally:
        shown.close()


@pytest.mark.slow
def test_a_pipe_gets_one_line_for_each_job(project):
    done = project.oba("run", "tiny.yaml", "--cores", "2")
    lines = done.stderr.splitlines()
    ended = [match for line in lines if (match := re.match(r" ?(\d+)/13 +\d+:\d\d  ", line))]
    assert [int(match[1]) for match in ended] == [*range(1, 14)]
    names = Counter(line.split(maxsplit=2)[2].split("%")[-1].strip() for line in lines if re.match(r" ?\d+/13 ", line))
    assert set(names.values()) == {1}
    assert names["finetune taylor iterative keep0.70 resnet8 seed0"] == 1
    assert len(lines) < 13 + 15, done.stderr
    assert "\x1b" not in done.stderr
    [log] = {match[1] for line in lines if (match := re.match(r"Snakemake's own log: (\S+)", line))}
    assert "rule finetune:" in (project.root / log).read_text()
    assert (project.root / "results/tiny/report/summary.md").exists()
    assert project.oba("status", check=False).returncode == FINISHED

    for sent in (project.root / "results/tiny/journal").rglob("*.sent"):
        sent.unlink()
    (project.root / "results/mlflow.db").unlink()  # as if the run had been killed before it sent anything
    again = project.oba("run", "tiny.yaml")
    assert "nothing to do: every job of the study is done" in again.stderr
    assert {"tiny/report", "tiny/resnet8/seed0/dense/run"} <= runs(project.root / "results/mlflow.db").keys()
    assert len(again.stderr.splitlines()) <= 2
    assert "results/tiny/report/summary.md" in again.stdout, "the closing table"

    plan = project.oba("run", "tiny.yaml", "-n", "--config", "finetune={epochs: 2, batch_size: 256, lr: 0.01}").stdout
    assert re.search(r"^finetune +2  1 settings changed, 1 after the above$", plan, re.MULTILINE)
    assert re.search(r"^total +\d+$", plan, re.MULTILINE)
    assert len(plan.splitlines()) < 20
    assert (project.root / "results/tiny/resnet8/seed0/taylor-iterative/keep0.70/finetuned/run.json").exists()


@pytest.mark.slow
def test_a_terminal_shows_what_runs_and_ctrl_c_is_no_failure(project):
    project.write_study(dense={"epochs": 2000, "batch_size": 64})
    with screen(project, "run", "tiny.yaml", "--until", "dense") as shown:
        shown.wait_for(r"dense resnet8 seed0  epoch (?:[2-9]|\d\d+)/2000  [\d,]+ images/s  \d+:\d\d left")
        assert project.oba("status", check=False).returncode == GOES_ON
        os.killpg(shown.process.pid, signal.SIGINT)  # as the terminal does
        assert shown.finish() == 1
    assert "stopping: the running jobs save what they have" in shown.text
    assert re.search(r"stopped: dense resnet8 seed0: SIGINT, saved at ", shown.text)
    assert shown.text.rstrip().endswith("stopped; the same command goes on")
    assert not re.search(r"fail|Error in rule|Traceback", shown.text)
    assert shown.raw.rfind("\x1b[?25h") >= shown.raw.rfind("\x1b[?25l"), "the cursor is left as it was"
    stopped = project.oba("status", check=False)
    assert stopped.returncode == ENDED
    assert "stopped dense resnet8 seed0 stopped by SIGINT, saved at " in " ".join(stopped.stdout.split())
    with screen(project, "run", "tiny.yaml", "--until", "dense") as shown:
        shown.wait_for(r"dense resnet8 seed0  epoch \d+/2000  .* resumed at epoch \d+")
        told = project.oba("status", check=False).stdout
        assert "resumed at epoch" in " ".join(told.split()), "on one line or two"
        os.killpg(shown.process.pid, signal.SIGKILL)
    log = project.root / "results/tiny/logs/resnet8/seed0/dense/run.log"
    assert "resumed a" in log.read_text().splitlines()[0]


@pytest.mark.slow
def test_a_failing_job_has_one_cause(project):
    wild = {"name": "wild", "criterion": "magnitude", "finetune": {"epochs": 1, "batch_size": 256, "lr": 1e30}}
    project.write_study(methods=[wild], keep=[0.7])
    done = project.oba("run", "tiny.yaml", "--cores", "2", check=False)
    assert done.returncode == 1
    cause = r"finetune wild iterative keep0.70 resnet8 seed0: the loss is \w+ at epoch 1"
    log = "results/tiny/logs/resnet8/seed0/wild-iterative/keep0.70/finetuned/run.log"
    assert len(re.findall(rf"^failed: {cause}.*\(log: {log}\)$", done.stderr, re.MULTILINE)) == 2, "and at the end"
    assert not re.search(r"Error in rule|CalledProcessError|Traceback", done.stderr)
    assert done.stderr.splitlines()[-1] == "not all jobs are done; the same command tries those that failed again"
    assert "tiny/report" in runs(project.root / "results/mlflow.db"), "the report of what finished is sent"
    told = project.oba("status", check=False)
    assert told.returncode == ENDED
    assert re.search(r"failed   finetune wild iterative keep0.70 resnet8 seed0  the loss is", told.stdout)

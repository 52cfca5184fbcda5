"""Two processes of one job have one log, and both are heard in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JOB = """
import sys
from pathlib import Path
from oba.files import locked
from oba.stages.logs import kept_log

print(sys.argv[1], "waits", flush=True)
with locked(Path("state")):
    if Path("done").exists():
        sys.exit()
    with kept_log(Path("job.log")):
        print(sys.argv[1], "works", flush=True)
        Path("working").touch()
        while not Path("end").exists():
            pass
        print(sys.argv[1], "ends", flush=True)
        if sys.argv[1] != "fails":
            Path("done").touch()
        Path("end").unlink()
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts the job as Snakemake does: a new log, and the output sent there."""
    started = []

    def begin(name: str, log: str = "job.log") -> subprocess.Popen[bytes]:
        (tmp_path / log).unlink(missing_ok=True)
        with (tmp_path / log).open("wb") as stream:
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            command = [sys.executable, "-c", JOB, name]
            started.append(
                subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=stream, stderr=subprocess.STDOUT)
            )
        wait_for(lambda: f"{name} waits" in (tmp_path / log).read_text())
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def wait_for(happened) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def works(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process works."""
    wait_for(lambda: (folder / "working").exists() or process.poll() is not None)
    (folder / "working").unlink()


def end(folder: Path, process: subprocess.Popen[bytes]) -> None:
    (folder / "end").touch()
    assert process.wait() == 0


def test_the_log_is_of_the_one_that_worked(start, tmp_path):
    first = start("first")
    works(tmp_path, first)
    second = start("second")
    end(tmp_path, first)
    assert second.wait() == 0
    assert (tmp_path / "job.log").read_text() == "first waits\nfirst works\nfirst ends\n"
    assert not list(tmp_path.glob(".job.log*"))


def test_one_that_has_to_work_after_all_is_heard_after_the_other(start, tmp_path):
    first = start("fails")
    works(tmp_path, first)
    second = start("second")
    end(tmp_path, first)
    works(tmp_path, second)
    end(tmp_path, second)
    assert (tmp_path / "job.log").read_text() == "fails waits\nfails works\nfails ends\nsecond works\nsecond ends\n"


def test_after_a_kill_the_log_is_that_of_the_next(start, tmp_path):
    first = start("first")
    works(tmp_path, first)
    second = start("second")
    first.send_signal(signal.SIGKILL)
    works(tmp_path, second)
    end(tmp_path, second)
    assert (tmp_path / "job.log").read_text() == "second waits\nsecond works\nsecond ends\n"
    assert not list(tmp_path.glob(".job.log*"))


def test_other_files_are_left_alone(start, tmp_path):
    job = start("first", log="mine.txt")
    works(tmp_path, job)
    end(tmp_path, job)
    assert (tmp_path / "mine.txt").read_text() == "first waits\nfirst works\nfirst ends\n"
    assert sorted(path.name for path in tmp_path.glob("*log*")) == []

"""Orphans of several stages at once, and restarts while they run and after: nothing is trained twice."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable

import psutil
import pytest

COUNTED = """

import sys as _sys

_whole = Epoch.learn


def _counted(self):
    done = _whole(self)
    with open("epochs", "a") as stream:
        stream.write(f"{' '.join(_sys.argv[1:])} epoch {self._number}\\n")
    return done


Epoch.learn = _counted
"""


def start(project) -> subprocess.Popen[bytes]:
    command = project.command("--quiet", "all", "--cores", "4")
    return subprocess.Popen(command, cwd=project.root, env=project.environment, start_new_session=True)


def wait_for(event: Callable[[], object], process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + 600
    while not event():
        assert process is None or process.poll() is None, "the run ended before the event"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill(project, process: subprocess.Popen[bytes]) -> None:
    """Kill Snakemake alone: its jobs become orphans."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    project.oba("unlock")


def orphans(project) -> list[psutil.Process]:
    """Return the jobs that work in a project."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if process.info["cwd"] == str(project.root) and any(word.endswith("/oba") or word == "oba" for word in words):
            found.append(process)
    return found


@pytest.mark.slow
def test_nothing_is_trained_twice(project):
    epoch = project.root / "oba/training/epoch.py"
    epoch.write_text(epoch.read_text() + COUNTED)
    recipe = {"epochs": 6, "batch_size": 128}
    project.write_study(seeds=[0, 1], keep=[0.6], dense=recipe, finetune=recipe | {"lr": 0.01})
    state = project.root / "results/tiny/.state/resnet8"

    first = start(project)
    wait_for(lambda: len({path.parent for path in state.glob("seed*/dense/run/*/epoch-*")}) == 2, first)
    kill(project, first)
    assert orphans(project)
    second = start(project)  # while they run
    wait_for(lambda: list(state.glob("seed*/taylor-iterative/keep0.60/finetuned/run/*/epoch-*")), second)
    kill(project, second)
    wait_for(lambda: not orphans(project))
    project.snakemake()  # after they have ended

    epochs = (project.root / "epochs").read_text().splitlines()
    assert {line: count for line, count in Counter(epochs).items() if count > 1} == {}
    assert len(epochs) == 2 * (6 + 6)
    assert project.planned() == Counter()

"""A dead run's lock is freed; a live one's is not, whoever runs it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from oba.locks import HOST_FILE, LockedError, Owner, free_dead_lock, owners, remember_host, runs_workflow

ROOT = Path(__file__).parents[1]
NOBODY = 65534
SLEEP = "import time\ntime.sleep(600)\n"


@pytest.fixture
def locked_directory(tmp_path):
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("data")
    (locks / "0.output.lock").write_text("result")
    return tmp_path


@contextmanager
def running(*command: str, cwd: Path):
    """Run a program that lasts, until the end of the block; it sleeps before the block begins."""
    process = subprocess.Popen(command, cwd=cwd)
    try:
        while psutil.Process(process.pid).cmdline() != list(command):
            time.sleep(0.01)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def locks_in(folder: Path) -> int:
    return len(list((folder / ".snakemake" / "locks").iterdir()))


def test_nothing_to_free(tmp_path):
    assert free_dead_lock(tmp_path) == "no lock is held"


def test_a_dead_runs_lock_is_freed(locked_directory):
    remember_host(locked_directory)
    assert "freed the lock" in free_dead_lock(locked_directory)
    assert free_dead_lock(locked_directory) == "no lock is held"


@pytest.mark.parametrize("options", [["snakemake"], ["-u", "-m", "snakemake"], ["-X", "dev", "-um", "snakemake"]])
def test_a_live_owner_keeps_it(locked_directory, options):
    for name in ("snakemake", "snakemake.py"):
        (locked_directory / name).write_text(SLEEP)
    with running(sys.executable, *options, "--cores", "1", cwd=locked_directory) as pid:
        assert owners(locked_directory) == [Owner(pid, certain=True)]
        with pytest.raises(LockedError, match=rf"locked by a running snakemake \(process {pid}\)"):
            free_dead_lock(locked_directory)
        assert locks_in(locked_directory) == 2
    assert "freed the lock" in free_dead_lock(locked_directory)


def test_single_jobs_and_runs_elsewhere_are_not_owners(locked_directory, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for folder in (locked_directory, elsewhere):
        (folder / "snakemake").write_text(SLEEP)
    step = (sys.executable, "snakemake", "--target-jobs", "dense:seed=0", "--mode", "remote")
    with running(*step, cwd=locked_directory), running(sys.executable, "snakemake", cwd=elsewhere):
        assert owners(locked_directory) == []
        assert "freed the lock" in free_dead_lock(locked_directory)


@pytest.mark.parametrize(
    ("line", "owner"),
    [
        ("snakemake --cores 2", True),
        ("/usr/bin/python3.11 /env/bin/snakemake --cores 2", True),
        ("python -m snakemake", True),
        ("python3 -Im snakemake.cli", True),
        ("python -W error -u /env/bin/snakemake", True),
        ("python -m snakemake --mode default", True),
        ("python -m snakemake --snakefile S --target-jobs a:b=c --mode remote", False),
        ("python -m snakemake --target-jobs a:b=c --mode=subprocess", False),
        ("python -m snakemake --mode", False),
        ("python -m pytest snakemake", False),
        ("python --version", False),
        ("vim /env/bin/snakemake", False),
        ("", False),
    ],
)
def test_command_lines_of_runs(line, owner):
    assert runs_workflow(line.split()) == owner


def fake_process(monkeypatch, *, uid):
    """Let one Snakemake run whose directory is hidden be all that runs."""
    uids = None if uid is None else SimpleNamespace(effective=uid)
    info = {"pid": 7, "cmdline": ["snakemake"], "cwd": None, "uids": uids}
    monkeypatch.setattr(psutil, "process_iter", lambda attributes: [SimpleNamespace(info=info)])


def belong_to(monkeypatch, uid):
    """Let files seem to belong to another user than the current one."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)


def test_what_the_system_hides_counts_as_alive(locked_directory, monkeypatch):
    fake_process(monkeypatch, uid=os.geteuid() + 2)
    belong_to(monkeypatch, os.geteuid() + 1)
    with pytest.raises(LockedError, match=r"snakemake of another user \(process 7\) may hold .* works elsewhere"):
        free_dead_lock(locked_directory)
    assert locks_in(locked_directory) == 2


@pytest.mark.parametrize("uid", [None, os.geteuid()])
def test_a_process_of_unknown_user_or_ones_own_may_hold_ones_own_locks(locked_directory, monkeypatch, uid):
    fake_process(monkeypatch, uid=uid)
    assert owners(locked_directory) == [Owner(7, certain=False)]


def test_another_users_run_does_not_hold_ones_own_locks(locked_directory, monkeypatch):
    fake_process(monkeypatch, uid=os.geteuid() + 1)
    assert "freed the lock" in free_dead_lock(locked_directory)


@pytest.mark.parametrize("hidden", [psutil.NoSuchProcess(1), psutil.AccessDenied(1)])
def test_locks_of_users_whose_processes_are_hidden_stay(locked_directory, monkeypatch, hidden):
    def first(pid):
        raise hidden

    monkeypatch.setattr(psutil, "Process", first)
    monkeypatch.setattr(psutil, "process_iter", lambda attributes: [])
    assert "freed the lock" in free_dead_lock(shutil.copytree(locked_directory, locked_directory / "own"))
    belong_to(monkeypatch, os.geteuid() + 1)
    with pytest.raises(LockedError, match="locked by another user, whose processes this machine hides"):
        free_dead_lock(locked_directory)


UNLOCK_AS_NOBODY = f"""
import os, psutil, sys
from pathlib import Path
from oba.locks import LockedError, free_dead_lock

psutil.pids = lambda: [int(sys.argv[1])]  # what else runs on this machine is not part of the test
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
try:
    print(free_dead_lock(Path.cwd()))
except LockedError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_a_user_cannot_free_the_lock_of_another_users_live_run(locked_directory):
    """The real system: root runs the workflow, nobody unlocks."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as name:
        folder = shutil.copytree(locked_directory, Path(name) / "run")
        for path in [folder.parent, folder, *folder.rglob("*")]:
            path.chmod(0o777)

        def unlock(pid: int) -> str:
            command = [sys.executable, "-c", UNLOCK_AS_NOBODY, str(pid)]
            return subprocess.check_output(command, cwd=folder, env=environment, text=True)

        (folder / "snakemake").write_text(SLEEP)
        with running(sys.executable, "snakemake", cwd=folder) as pid:
            assert f"snakemake of another user (process {pid}) may hold the lock" in unlock(pid)
            assert locks_in(folder) == 2
        assert "freed the lock" in unlock(pid)
        assert locks_in(folder) == 0


def test_a_run_on_another_machine_is_not_judged(locked_directory):
    (locked_directory / HOST_FILE).write_text("another-host")
    with pytest.raises(LockedError, match="locked by a run on another-host"):
        free_dead_lock(locked_directory)


def test_the_next_run_notes_its_machine_also_where_another_user_noted_theirs(locked_directory):
    note = locked_directory / HOST_FILE
    note.write_text("another-host")
    before = note.stat().st_ino
    remember_host(locked_directory)
    assert note.read_text() == socket.gethostname()
    assert note.stat().st_ino != before, "replaced, not written in place: the file may belong to somebody else"

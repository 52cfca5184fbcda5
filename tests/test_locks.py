"""A dead run's lock is freed; a live one's is not."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from oba.locks import HOST_FILE, LockedError, free_dead_lock, owners, remember_host


@pytest.fixture
def locked_directory(tmp_path):
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("data")
    (locks / "0.output.lock").write_text("result")
    return tmp_path


def test_nothing_to_free(tmp_path):
    assert free_dead_lock(tmp_path) == "no lock is held"


def test_a_dead_runs_lock_is_freed(locked_directory):
    remember_host(locked_directory)
    assert "freed the lock" in free_dead_lock(locked_directory)
    assert free_dead_lock(locked_directory) == "no lock is held"


def test_a_live_owner_keeps_it(locked_directory):
    program = locked_directory / "snakemake"
    program.write_text("import time\ntime.sleep(600)\n")
    process = subprocess.Popen([sys.executable, str(program)], cwd=locked_directory)
    try:
        while not owners(locked_directory):
            time.sleep(0.01)
        with pytest.raises(LockedError, match=f"locked by a running snakemake \\(process {process.pid}\\)"):
            free_dead_lock(locked_directory)
        assert list((locked_directory / ".snakemake" / "locks").iterdir())
    finally:
        process.kill()
        process.wait()
    assert "freed the lock" in free_dead_lock(locked_directory)


def test_a_run_on_another_machine_is_not_judged(locked_directory):
    (locked_directory / HOST_FILE).write_text("another-host")
    with pytest.raises(LockedError, match="locked by a run on another-host"):
        free_dead_lock(locked_directory)

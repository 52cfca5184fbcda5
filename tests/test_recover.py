"""A lost run is taken up only when it is surely dead; what SLURM itself does is tested in tests/workflow/cluster."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from oba.errors import RecoverError
from oba.locks import HOST_FILE, remember_host
from oba.recover import NOTE, recovered, refuse_orphans, remember_run
from oba.slurm import QueuedJob, most_gpus, unfinished_jobs

ROOT = Path(__file__).parents[1]


@pytest.fixture
def lost(tmp_path):
    """The folder of a run on this machine that is not alive and holds its lock."""
    start_run(tmp_path)
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir()
    (locks / "0.input.lock").write_text("data")
    return tmp_path


def start_run(workdir: Path, slurm_run: str = "") -> None:
    """Note a run as its start does."""
    log = workdir / "run.log"
    log.write_text(f"Building DAG of jobs...\n{f'SLURM run ID: {slurm_run}' if slurm_run else ''}\nUsing shell: sh\n")
    remember_host(workdir)
    remember_run(workdir, ["--configfile", "s.yaml"], Path("results/s/study.json"), [str(log)])


def programs(monkeypatch, folder: Path, **scripts: str) -> None:
    """Let the search path hold only these programs."""
    folder.mkdir()
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def said(workdir: Path, **options) -> list[str]:
    """Recover, and return what it says."""
    lines: list[str] = []
    with recovered(workdir, **{"cancel": False, "lost_host": "", "tell": lines.append} | options):
        return lines


def test_a_lost_run_without_a_cluster_is_unlocked_and_gives_its_command(lost):
    lines: list[str] = []
    with recovered(lost, cancel=False, lost_host="", tell=lines.append) as run:
        assert (run.command, run.study) == (["--configfile", "s.yaml"], "results/s/study.json")
        assert lines == ["freed the lock of a run that is no longer alive (1 files)"]
        with pytest.raises(RecoverError, match="another `oba recover` is at work"):
            said(lost)
    assert said(lost) == ["no lock is held"]


def test_where_nothing_was_started_there_is_nothing_to_recover(tmp_path):
    command, environment = [sys.executable, "-m", "oba", "recover"], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    message = f"error: {tmp_path}: no run was started here; allowed: `oba run`\n"
    assert (done.returncode, done.stdout, done.stderr) == (15, "", message)


def test_a_live_run_is_left_alone(lost):
    (lost / "snakemake").write_text("import time\ntime.sleep(600)\n")
    command = [sys.executable, "snakemake"]
    process = subprocess.Popen(command, cwd=lost)
    try:
        while psutil.Process(process.pid).cmdline() != command:
            time.sleep(0.01)
        with pytest.raises(RecoverError, match=rf"alive, or may be \(process {process.pid}\)"):
            said(lost)
        assert list((lost / ".snakemake" / "locks").iterdir())
    finally:
        process.kill()
        process.wait()
    assert "freed" in said(lost)[0]


def test_a_run_on_another_machine_is_recovered_only_by_somebody_who_knows_that_it_is_dead(lost):
    (lost / HOST_FILE).write_text("login1")
    with pytest.raises(RecoverError, match=r"started on login1, .* or `oba recover --lost-host login1` if you know"):
        said(lost)
    with pytest.raises(RecoverError, match="--lost-host login2: the last run was started on login1; allowed: login1"):
        said(lost, lost_host="login2")
    assert said(lost, lost_host="login1") == ["freed the lock of a run that is no longer alive (1 files)"]


def test_a_lost_host_is_the_one_of_the_run_also_here(lost):
    assert "freed" in said(lost, lost_host=socket.gethostname())[0]


@pytest.mark.parametrize(
    ("squeue", "message"),
    [
        (None, "squeue: no such command; allowed: run this where jobs are submitted"),
        ("echo 'slurm_load_jobs: Unable to contact' >&2; exit 1", "Unable to contact; allowed: try again when SLURM"),
        ("exit 3", "exit code 3; allowed: try again when SLURM answers"),
    ],
)
def test_where_slurm_does_not_answer_nothing_is_touched(lost, tmp_path, monkeypatch, squeue, message):
    programs(monkeypatch, tmp_path / "bin", **({"squeue": squeue} if squeue else {}))
    start_run(lost, "run-1")
    for attempt in (said, refuse_orphans):
        with pytest.raises(RecoverError, match=message):
            attempt(lost)
    assert list((lost / ".snakemake" / "locks").iterdir())


def test_a_slurm_that_hangs_is_given_up(tmp_path, monkeypatch):
    programs(monkeypatch, tmp_path / "bin", squeue="exec /bin/sleep 600")
    monkeypatch.setattr("oba.slurm._TIMEOUT", 0.2)
    with pytest.raises(RecoverError, match="squeue: no answer in 0 s"):
        unfinished_jobs(["run-1"])


def test_the_jobs_of_lost_runs_are_waited_for_also_while_slurm_is_away_for_a_moment(lost, tmp_path, monkeypatch):
    """The queue, one answer after the other: a job runs, is held, no answer, it is ending, it is gone."""
    answers = "echo x >> calls; case $(/usr/bin/wc -l < calls) in 1) echo '12|RUNNING|None';; "
    answers += "2) echo '12|PENDING|launch failed requeued held';; 3) exit 1;; "
    programs(monkeypatch, tmp_path / "bin", squeue=answers + "4) echo '12|COMPLETING|None';; esac")
    monkeypatch.chdir(lost)
    monkeypatch.setattr("oba.recover._POLL", 0.01)
    start_run(lost, "run-1")
    assert said(lost) == [
        "waiting for 1 job: 12 running",
        "waiting for 1 job: 12 pending (launch failed requeued held; it starts after `scontrol release 12`)",
        "waiting for 1 job: 12 completing",
        "no job is left in SLURM's queue",
        "freed the lock of a run that is no longer alive (1 files)",
    ]
    assert said(lost) == ["no lock is held"], "SLURM is not asked again"


def test_runs_whose_jobs_are_left_are_remembered_beside_the_new_one(lost, tmp_path, monkeypatch):
    programs(monkeypatch, tmp_path / "bin", squeue='case "$*" in *run-2*) echo "7|PENDING|Resources";; esac')
    for name in ("run-1", "run-2", "run-3"):
        start_run(lost, name)
    assert '"run-2",\n  "run-3"' in (lost / NOTE).read_text()
    start_run(lost)
    assert '"slurm_runs": [\n  "run-2"\n ]' in (lost / NOTE).read_text()
    with pytest.raises(RecoverError, match="1 job of an earlier run is still in SLURM's queue; allowed: `oba recover`"):
        refuse_orphans(lost)


def test_a_start_beside_no_orphans_is_not_refused(lost, tmp_path, monkeypatch):
    assert refuse_orphans(tmp_path / "fresh") is None
    assert refuse_orphans(lost) is None
    asked = tmp_path / "asked"
    programs(monkeypatch, tmp_path / "bin", squeue=f": > {asked}")
    start_run(lost, "run-1")
    assert refuse_orphans(lost) is None
    assert asked.exists(), "SLURM was asked, and has no job of the run"


def test_the_queue_is_read(tmp_path, monkeypatch):
    programs(
        monkeypatch,
        tmp_path / "bin",
        squeue='echo "$*" > asked; printf "7|PENDING|(Priority)\\n8_[1-3]|RUNNING|None\\n\\n"',
    )
    monkeypatch.chdir(tmp_path)
    assert unfinished_jobs(["a", "b"]) == [
        QueuedJob("7", "PENDING", "(Priority)"),
        QueuedJob("8_[1-3]", "RUNNING", "None"),
    ]
    assert "--name a,b" in (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [
        ("(null)\n", 0),
        ("", 0),
        ("shard:4,mps:100\n", 0),
        ("gpu\n", 1),
        ("(null)\ngpu:2\n", 2),
        ("gpu:a100:4(S:0-1)\ngpu:v100:8(S:0)\n", 8),
        ("gpu:a100:2,gpu:v100:3\n", 5),
        ("gpu:1g.5gb:7(S:0),shard:1\n", 7),
    ],
)
def test_gpus_of_nodes(listed, gpus):
    assert most_gpus(listed) == gpus

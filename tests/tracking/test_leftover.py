"""Runs whose process died without a word end as KILLED; those that may still go on do not."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from oba.tracking import stage_run, sync
from oba.tracking.journal import Journal, now_ms, read_attempt
from oba.tracking.leftover import Fate, Queue, close_if_dead

STAGE = """
import sys, time
from pathlib import Path
from oba.tracking import RunIdentity, stage_run

journal, results, uri, experiment = sys.argv[1:]
chain = RunIdentity(experiment, "chain", "chain 1", tags={"kind": "chain"})
identity = RunIdentity(experiment, "stage", "name of stage", chain)
with stage_run(Path(journal), identity, uri=uri, results_dir=Path(results), every=0) as run:
    run.metrics({"loss": 0.5}, step=1)
    print("ready", flush=True)
    time.sleep(600)
"""


@contextmanager
def running(lab):
    """Let a stage run in a process of its own until the block ends it."""
    command = [sys.executable, "-c", STAGE, str(lab.journal()), str(lab.results), lab.uri, lab.experiment]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def journal(tmp_path, lab, monkeypatch):
    """Write the start of a stage, as some machine and SLURM job did."""

    def journal(host, job, *, ago_ms=3_600_000):
        path = tmp_path / "stage.jsonl"
        with monkeypatch.context() as patch:
            patch.setattr(socket, "gethostname", lambda: host)
            patch.setenv("SLURM_JOB_ID", job)
            patch.setattr("oba.tracking.journal.now_ms", lambda: now_ms() - ago_ms)
            book = Journal(path)
            book.start(lab.identity())
            book.close()
        return path

    return journal


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Put a command in the place of SLURM's, which prints some jobs or fails."""

    def squeue(*lines):
        (tmp_path / "bin").mkdir()
        command = tmp_path / "bin" / "squeue"
        command.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    return squeue


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_run_of_a_killed_process_ends_as_killed_once_it_is_dead(lab, number):
    with running(lab) as process:
        alive = sync([lab.journal()], lab.uri, lab.results)
        assert (alive.closed, lab.run().info.status) == (0, "RUNNING")
        process.send_signal(number)
        assert process.wait() == -number
    done = sync([lab.journal()], lab.uri, lab.results)
    assert (done.closed, done.unknown, done.updated) == (1, 0, 1)
    assert str(done).endswith("; 1 runs of dead processes ended as KILLED")
    attempt = read_attempt(lab.journal())
    assert attempt is not None
    assert attempt.state == ("KILLED", attempt.events[-2].time)
    run, chain = lab.run(), lab.run("chain")
    assert (run.info.status, run.info.end_time, chain.info.status) == ("KILLED", attempt.state[1], "KILLED")
    size = lab.journal().stat().st_size
    again = sync([lab.journal()], lab.uri, lab.results)
    assert (again.closed, again.updated, lab.journal().stat().st_size) == (0, 0, size)


def test_killed_stage_that_was_closed_goes_on_in_its_run(lab):
    with running(lab) as process:
        process.kill()
    sync([lab.journal()], lab.uri, lab.results)
    closed = lab.run()
    identity = lab.identity(parent=True)
    with stage_run(lab.journal(), identity, uri=lab.uri, results_dir=lab.results, every=0) as run:
        run.metrics({"loss": 0.5}, step=1)
        run.metrics({"loss": 0.25}, step=2)
        assert lab.run().info.status == "RUNNING"
    found = lab.run()
    assert (found.info.run_id, found.info.status) == (closed.info.run_id, "FINISHED")
    assert lab.history(found) == [(*point[:3], point[3]) for point in lab.reported()]
    assert lab.run("chain").info.status == "FINISHED"


def test_line_that_a_killed_process_left_unfinished_is_cut_off_at_the_close(lab):
    with running(lab) as process:
        process.kill()
    with lab.journal().open("ab") as stream:
        stream.write(b'{"event": "metr')
    assert close_if_dead(lab.journal(), Queue()) is Fate.CLOSED
    assert lab.journal().read_bytes().endswith(b"}\n")
    assert sync([lab.journal()], lab.uri, lab.results).updated == 1
    assert sync([lab.journal()], lab.uri, lab.results).updated == 0


def test_run_of_another_machine_is_left_alone(lab, journal):
    path = journal("elsewhere", "")
    report = sync([path], lab.uri, lab.results)
    assert (report.closed, report.unknown) == (0, 1)
    assert str(report).endswith("; 1 unfinished runs of other machines left as they are")
    assert lab.run().info.status == "RUNNING"


def test_slurm_knows_whether_a_job_of_another_machine_is_over(journal, squeue):
    squeue('[ "$*" = "--noheader --format=%A" ] && printf "41\\n43\\n"')
    path = journal("elsewhere", "43")
    assert close_if_dead(path, Queue()) is Fate.UNKNOWN
    path.unlink()
    path = journal("elsewhere", "42")
    assert close_if_dead(path, Queue()) is Fate.CLOSED
    assert close_if_dead(path, Queue()) is Fate.ENDED


def test_slurm_is_asked_once_and_later_jobs_are_not_in_its_answer(journal, squeue, tmp_path):
    squeue(f'echo asked >> "{tmp_path}/asked"')
    queue = Queue()
    old = journal("elsewhere", "41")
    assert close_if_dead(old, queue) is Fate.CLOSED
    old.unlink()
    assert close_if_dead(journal("elsewhere", "42", ago_ms=0), queue) is Fate.UNKNOWN
    assert (tmp_path / "asked").read_text() == "asked\n"


@pytest.mark.parametrize("lines", [("echo 41", "exit 1"), ()])
def test_slurm_that_does_not_answer_proves_nothing(journal, squeue, lines, monkeypatch, tmp_path):
    if lines:
        squeue(*lines)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    assert close_if_dead(journal("elsewhere", "42"), Queue()) is Fate.UNKNOWN


def test_slurm_that_hangs_proves_nothing(journal, squeue, monkeypatch):
    monkeypatch.setattr("oba.tracking.leftover._SQUEUE_SECONDS", 0.1)
    squeue("exec sleep 60")
    assert close_if_dead(journal("elsewhere", "42"), Queue()) is Fate.UNKNOWN


def test_journal_of_an_earlier_version_proves_nothing(lab, tmp_path):
    path = tmp_path / "stage.jsonl"
    identity = str(lab.identity().to_json()).replace("'", '"').replace("None", "null")
    path.write_text(f'{{"event": "start", "time": 1, "attempt": "a", "identity": {identity}}}\n')
    assert read_attempt(path) is not None
    assert close_if_dead(path, Queue()) is Fate.UNKNOWN


def test_journal_that_ends_while_it_is_looked_at_is_not_closed(journal, monkeypatch):
    path = journal(socket.gethostname(), "")
    opened = Journal

    def end_first(path, *, wait):
        book = opened(path, wait=wait)
        book.write("end", status="FINISHED")
        return book

    monkeypatch.setattr("oba.tracking.leftover.Journal", end_first)
    assert close_if_dead(path, Queue()) is Fate.ENDED
    attempt = read_attempt(path)
    assert attempt is not None
    assert attempt.state[0] == "FINISHED"


def test_journal_without_a_start_is_nothing_to_close(tmp_path):
    Journal(tmp_path / "stage.jsonl").close()
    assert close_if_dead(tmp_path / "stage.jsonl", Queue()) is Fate.ENDED

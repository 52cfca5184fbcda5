"""Going on after the process that ran a workflow was lost, also where it left jobs on a cluster.

A run that is killed, or whose machine dies, leaves its jobs in SLURM's queue, and a new run does not know them: it
would submit them a second time. So every run notes its id on the cluster and its command; recovering waits for the
jobs of such a run, or cancels them, and then frees its lock. Nothing is done while the run may be alive.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel

from oba.errors import RecoverError
from oba.files import read_record, write_record
from oba.locks import free_dead_lock, last_host, owners
from oba.slurm import QueuedJob, cancel_jobs, unfinished_jobs

NOTE = Path(".snakemake") / "oba-run.json"
_RUN_ID = re.compile(r"^SLURM run ID: (\S+)", re.MULTILINE)
_POLL = 2.0
"""Seconds between two looks at SLURM's queue."""


class RunNote(BaseModel):
    """What a run notes at its start.

    Attributes:
        command: Snakemake's options.
        study: The resolved study.
        slurm_runs: Its id in SLURM, which is the name of all its jobs, after those of lost runs whose jobs were left
            at its start.
    """

    command: list[str]
    study: str
    slurm_runs: list[str]


def remember_run(workdir: Path, command: Sequence[str], study: Path, logs: Sequence[str]) -> None:
    """Note what :func:`recovered` needs to know of a run that starts.

    Args:
        workdir: The workflow's working directory.
        command: Snakemake's options.
        study: The resolved study.
        logs: Snakemake's logs of the run, in which the executor for SLURM tells the run's id.
    """
    runs = _left_behind(workdir)
    for log in logs:
        runs += _RUN_ID.findall(Path(log).read_text(encoding="utf-8", errors="replace"))
    write_record(workdir / NOTE, RunNote(command=list(command), study=str(study), slurm_runs=runs))


def last_run(workdir: Path) -> RunNote | None:
    """Return what the last run noted.

    Args:
        workdir: The workflow's working directory.

    Returns:
        The note; None if no run was started.
    """
    note = workdir / NOTE
    return read_record(note, RunNote) if note.exists() else None


def refuse_orphans(workdir: Path) -> None:
    """Refuse to start beside jobs that a lost run left.

    Args:
        workdir: The workflow's working directory.

    Raises:
        RecoverError: If there are any.
    """
    run = last_run(workdir)
    if run is None or not run.slurm_runs or owners(workdir):
        return
    if jobs := unfinished_jobs(run.slurm_runs):
        raise RecoverError(
            f"{workdir}: {_named(jobs)} of an earlier run {_are(jobs)} still in SLURM's queue; allowed: `oba recover`, "
            "which waits for them and goes on with that run, or `oba recover --cancel`"
        )


@contextmanager
def recovered(workdir: Path, *, cancel: bool, lost_host: str, tell: Callable[[str], None]) -> Iterator[RunNote]:
    """Make the way free for another start of the last run; nobody else recovers it inside the block.

    Args:
        workdir: The workflow's working directory.
        cancel: Whether to cancel the jobs that it left, and not to wait for them.
        lost_host: The machine that it ran on, if that is another one and known to be dead.
        tell: Takes lines for the terminal.

    Yields:
        The run.

    Raises:
        RecoverError: If there is nothing to recover, if the run may be alive, or if SLURM does not answer.
    """
    run = last_run(workdir)
    if run is None:
        raise RecoverError(f"{workdir}: no run was started here; allowed: `oba run`")
    with _alone(workdir):
        _refuse_alive(workdir, lost_host)
        if run.slurm_runs:
            _await_jobs(run.slurm_runs, cancel, tell)
            write_record(workdir / NOTE, run.model_copy(update={"slurm_runs": []}))
            _refuse_alive(workdir, lost_host)  # somebody may have started it meanwhile
        tell(free_dead_lock(workdir, lost_host=lost_host))
        yield run


@contextmanager
def _alone(workdir: Path) -> Iterator[None]:
    """Refuse while another process recovers the run."""
    lock = FileLock(workdir / ".snakemake" / "oba-recover.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RecoverError(f"{workdir}: another `oba recover` is at work; allowed: wait for it, or stop it") from None
    try:
        yield
    finally:
        lock.release()


def _refuse_alive(workdir: Path, lost_host: str) -> None:
    """Refuse while the run may be alive."""
    here, host = socket.gethostname(), last_host(workdir)
    if alive := owners(workdir):
        numbers = ", ".join(str(owner.pid) for owner in alive)
        raise RecoverError(
            f"{workdir}: the run is alive, or may be (process {numbers}); allowed: wait for it, or stop it first"
        )
    if lost_host and lost_host != host:
        raise RecoverError(f"--lost-host {lost_host}: the last run was started on {host}; allowed: {host}")
    if host not in {here, lost_host}:
        raise RecoverError(
            f"{workdir}: the last run was started on {host}, which this machine ({here}) cannot see; allowed: "
            f"`oba recover` on {host}, or `oba recover --lost-host {host}` if you know that the run is dead"
        )


def _await_jobs(runs: Sequence[str], cancel: bool, tell: Callable[[str], None]) -> None:
    """Wait until SLURM has no job of some runs any more; once it has answered, it may also be away for a while."""
    jobs, told = unfinished_jobs(runs), ""
    if jobs and cancel:
        cancel_jobs(jobs)
    doing = "cancelled" if cancel else "waiting for"
    while jobs:
        line = f"{doing} {_named(jobs)}: {', '.join(map(str, jobs))}"
        if line != told:
            tell(line)
            told = line
        time.sleep(_POLL)
        with suppress(RecoverError):
            jobs = unfinished_jobs(runs)
    tell("no job is left in SLURM's queue")


def _left_behind(workdir: Path) -> list[str]:
    """Return the SLURM runs noted so far of which jobs may be left."""
    run = last_run(workdir)
    if run is None:
        return []
    try:
        return [name for name in run.slurm_runs if unfinished_jobs([name])]
    except RecoverError:
        return run.slurm_runs


def _named(jobs: Sequence[QueuedJob]) -> str:
    return f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}"


def _are(jobs: Sequence[QueuedJob]) -> str:
    return "is" if len(jobs) == 1 else "are"

"""Attempts whose process died without a word, by SIGKILL or with its machine: they are closed as KILLED.

A process that writes a journal holds the journal's lock while it lives. On the machine where it started, a free lock
proves that it died. File systems need not share locks between machines; of a process on another machine only SLURM
knows better, if its job is not in the queue any more.
"""

from __future__ import annotations

import socket
import subprocess
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TypeGuard

from oba.tracking.journal import Attempt, Journal, now_ms, read_attempt

_SQUEUE = ("squeue", "--noheader", "--format=%A")
_SQUEUE_SECONDS = 30
_CLOCKS_MS = 60_000


class Fate(Enum):
    """What became of an attempt."""

    ENDED = "it ended by itself"
    ALIVE = "its process is alive"
    CLOSED = "its process is dead, and it was closed"
    UNKNOWN = "it was started on another machine, and nobody knows"


class Queue:
    """The jobs that SLURM has, asked for once."""

    def lacks(self, job: str, started: int) -> bool:
        """Return whether SLURM says that a job is over which was there at a time in milliseconds."""
        if not job or self._jobs is None:
            return False
        # The clocks of machines differ; what started since the question was asked is not in the answer.
        return job not in self._jobs and started < self._asked - _CLOCKS_MS

    @cached_property
    def _jobs(self) -> set[str] | None:
        """The numbers of all jobs that wait or run; ``None`` if SLURM is not here or does not answer."""
        self._asked = now_ms()
        try:
            done = subprocess.run(_SQUEUE, capture_output=True, text=True, timeout=_SQUEUE_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return set(done.stdout.split()) if done.returncode == 0 else None


def close_if_dead(path: Path, queue: Queue) -> Fate:
    """Write the end of an attempt whose process is dead into its journal, at the time of its last report.

    Args:
        path: The journal.
        queue: SLURM's jobs.

    Returns:
        What became of the attempt.
    """
    if not _is_open(attempt := read_attempt(path)):
        return Fate.ENDED
    if not _may_be_judged(attempt, queue):
        return Fate.UNKNOWN
    try:
        book = Journal(path, wait=False)
    except BlockingIOError:
        return Fate.ALIVE
    try:
        # Somebody may have ended it, or started it again, since it was read.
        if not _is_open(attempt := read_attempt(path)):
            return Fate.ENDED
        book.write("end", attempt=attempt.id, status="KILLED", time=attempt.events[-1].time)
    finally:
        book.close()
    return Fate.CLOSED


def _is_open(attempt: Attempt | None) -> TypeGuard[Attempt]:
    """Return whether an attempt has not ended."""
    return attempt is not None and attempt.state[0] == "RUNNING"


def _may_be_judged(attempt: Attempt, queue: Queue) -> bool:
    """Return whether a free lock proves that an attempt's process is dead."""
    return attempt.host == socket.gethostname() or queue.lacks(attempt.job, attempt.joined)

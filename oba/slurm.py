"""What SLURM is asked besides running jobs: which jobs of a run are left, to cancel them, and whether it has GPUs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from oba.errors import RecoverError

_TIMEOUT = 60.0
"""Seconds that SLURM may take to answer."""
_GPUS = re.compile(r"\bgpu(?::[^:,()\s]+)??(?::(\d+))?(?=[,(\s]|$)")
"""A node's GPUs as SLURM writes them: ``gpu``, ``gpu:2`` or ``gpu:a100:4(S:0-1)``."""


@dataclass(frozen=True)
class QueuedJob:
    """A job that waits, runs or is ending.

    Attributes:
        number: SLURM's number of it.
        state: SLURM's word for its state, such as ``PENDING``.
        reason: Why it waits, in SLURM's words, or ``None``.
    """

    number: str
    state: str
    reason: str

    def __str__(self) -> str:
        """Say how it is, and what only its owner can change."""
        state = f"{self.number} {self.state.lower()}"
        if "held" not in self.reason.lower():
            return state
        return f"{state} ({self.reason}; it starts after `scontrol release {self.number}`)"


def unfinished_jobs(runs: Sequence[str]) -> list[QueuedJob]:
    """Return the jobs of some runs that have not ended.

    Args:
        runs: The runs' ids: a run's id is the name of all its jobs.

    Returns:
        The jobs.
    """
    lines = _ask(["squeue", "--noheader", "--format=%i|%T|%r", "--name", ",".join(runs)]).splitlines()
    return [QueuedJob(*line.strip().split("|", 2)) for line in lines if line.strip()]


def cancel_jobs(jobs: Sequence[QueuedJob]) -> None:
    """Ask SLURM to end jobs; those that train save first, so they end a while later.

    Args:
        jobs: The jobs.
    """
    _ask(["scancel", *(job.number for job in jobs)])


@cache
def gpus_per_node() -> int | None:
    """Return how many GPUs the cluster's best equipped node has.

    Returns:
        The number, or None where there is no SLURM or it does not answer: jobs will tell.
    """
    if shutil.which("sinfo") is None:
        return None
    try:
        return most_gpus(_ask(["sinfo", "--noheader", "--format=%G"]))
    except RecoverError:
        return None


def most_gpus(listed: str) -> int:
    """Return the largest number of GPUs in a list of nodes' generic resources.

    Args:
        listed: What ``sinfo --format=%G`` prints: one line for each kind of node.

    Returns:
        The number.
    """
    nodes = (sum(int(count or 1) for count in _GPUS.findall(line)) for line in listed.splitlines())
    return max(nodes, default=0)


def _ask(command: Sequence[str]) -> str:
    """Return what a command of SLURM prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT)
    except FileNotFoundError as error:
        raise RecoverError(f"{command[0]}: no such command; allowed: run this where jobs are submitted") from error
    except subprocess.TimeoutExpired as error:
        raise RecoverError(
            f"{command[0]}: no answer in {_TIMEOUT:.0f} s; allowed: try again when SLURM answers"
        ) from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise RecoverError(f"{said}; allowed: try again when SLURM answers")
    return done.stdout

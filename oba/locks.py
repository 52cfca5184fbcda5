"""Freeing Snakemake's lock after a run was killed, and only then.

Snakemake's lock files do not say who made them, so the owner is looked for among the processes of this
machine: a live ``snakemake`` in the same working directory. What the system hides counts as alive. A run
started on another machine is known by the host name that the run left at its start.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from oba.errors import ObaError
from oba.files import write_text

HOST_FILE = Path(".snakemake") / "oba-host"
NO_LOCK = "no lock is held"
_OPTIONS_WITH_VALUE = {"-X", "-W", "--check-hash-based-pycs"}


class LockedError(ObaError):
    """A run that may be alive holds the lock."""

    exit_code = 11


@dataclass(frozen=True)
class Owner:
    """A process that holds the lock, or may hold it.

    Attributes:
        pid: Its number.
        certain: Whether it works in the directory; otherwise the system hides where it works.
    """

    pid: int
    certain: bool


def remember_host(workdir: Path) -> None:
    """Note which machine runs the workflow in this directory.

    Args:
        workdir: The workflow's working directory.
    """
    write_text(workdir / HOST_FILE, socket.gethostname())


def owners(workdir: Path) -> list[Owner]:
    """Return the processes of this machine that may hold a directory's locks.

    These are the workflow runs that work there, and those whose directory the system hides. It hides that of other
    users' processes, which cannot have made locks that belong to the current user.

    Args:
        workdir: The workflow's working directory.

    Returns:
        The processes.
    """
    import psutil

    own = _are_own(workdir)
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd", "uids"]):
        folder, uids = process.info["cwd"], process.info["uids"]
        if not runs_workflow(process.info["cmdline"] or []):
            continue
        if folder is None:
            foreign = uids is not None and uids.effective != os.geteuid()
            if not (own and foreign):
                found.append(Owner(process.info["pid"], certain=False))
        elif folder == str(workdir.resolve()):
            found.append(Owner(process.info["pid"], certain=True))
    return found


def runs_workflow(words: Sequence[str]) -> bool:
    """Tell whether a command line is a Snakemake that takes locks, and not one that a run started for a single job.

    Args:
        words: The command line.

    Returns:
        Whether it is one.
    """
    if _program(words) != "snakemake":
        return False
    options = [part for word in words for part in word.split("=", 1)]
    return "--mode" not in options or "default" in options[options.index("--mode") + 1 :][:1]


def last_host(workdir: Path) -> str:
    """Return the machine on which the last run was started; this one if no run left its name.

    Args:
        workdir: The workflow's working directory.

    Returns:
        The host's name.
    """
    note = workdir / HOST_FILE
    return note.read_text(encoding="utf-8") if note.exists() else socket.gethostname()


def free_dead_lock(workdir: Path, *, lost_host: str = "") -> str:
    """Remove the locks of a dead run.

    Args:
        workdir: The workflow's working directory.
        lost_host: A machine that is known to run nothing any more.

    Returns:
        What was done, for the terminal.

    Raises:
        LockedError: If the owner lives or may live, or ran on another machine where nobody can see it.
    """
    locks = _locks(workdir)
    if not locks:
        return NO_LOCK
    found = owners(workdir)
    if alive := [owner for owner in found if owner.certain]:
        raise LockedError(
            f"{workdir}: locked by a running snakemake (process {_numbers(alive)}); "
            "allowed: wait for it, or stop it first"
        )
    if found:
        raise LockedError(
            f"{workdir}: a running snakemake of another user (process {_numbers(found)}) may hold the lock; "
            "allowed: wait for it, or `snakemake --unlock` if you know that it works elsewhere"
        )
    if not _are_own(workdir) and _others_are_hidden():
        raise LockedError(
            f"{workdir}: locked by another user, whose processes this machine hides; "
            "allowed: have that user run `oba unlock`, or `snakemake --unlock` if you know that the run is dead"
        )
    host = last_host(workdir)
    if host not in {socket.gethostname(), lost_host}:
        raise LockedError(
            f"{workdir}: locked by a run on {host}, which this machine ({socket.gethostname()}) cannot see; "
            f"allowed: run `oba unlock` on {host}, or `oba recover --lost-host {host}` if you know that it is dead"
        )
    for lock in locks:
        lock.unlink(missing_ok=True)
    return f"freed the lock of a run that is no longer alive ({len(locks)} files)"


def _locks(workdir: Path) -> list[Path]:
    return sorted((workdir / ".snakemake" / "locks").glob("*.lock"))


def _are_own(workdir: Path) -> bool:
    """Tell whether the current user made all locks; one may go meanwhile."""
    users = set()
    for lock in _locks(workdir):
        with suppress(FileNotFoundError):
            users.add(lock.stat().st_uid)
    return users <= {os.geteuid()}


def _others_are_hidden() -> bool:
    """Tell whether the system hides the processes of other users (such as /proc mounted with ``hidepid``)."""
    import psutil

    try:
        return not psutil.Process(1).cmdline()
    except psutil.Error:
        return True


def _numbers(found: Sequence[Owner]) -> str:
    return ", ".join(str(owner.pid) for owner in found)


def _program(words: Sequence[str]) -> str:
    """Return the name of the program, or of the script or module that Python runs."""
    rest = iter(words)
    name = Path(next(rest, "")).name
    return _python_runs(rest) if name.startswith("python") else name


def _python_runs(arguments: Iterator[str]) -> str:
    """Return the name of the script, or of the top package, among Python's arguments."""
    for word in arguments:
        if not word.startswith("-"):
            return Path(word).name
        if word in _OPTIONS_WITH_VALUE:
            next(arguments, "")
        elif not word.startswith("--") and word.endswith("m"):
            return next(arguments, "").partition(".")[0]
    return ""

"""Freeing Snakemake's lock after a run was killed, and only then.

Snakemake's lock files do not say who made them, so the owner is looked for among the processes of this
machine: a live ``snakemake`` in the same working directory. A run started on another machine is known by the
host name that the run left at its start.
"""

from __future__ import annotations

import socket
from pathlib import Path

from oba.errors import ObaError

HOST_FILE = Path(".snakemake") / "oba-host"


class LockedError(ObaError):
    """A run that may be alive holds the lock."""

    exit_code = 11


def remember_host(workdir: Path) -> None:
    """Note which machine runs the workflow in this directory.

    Args:
        workdir: The workflow's working directory.
    """
    (workdir / HOST_FILE).write_text(socket.gethostname(), encoding="utf-8")


def owners(workdir: Path) -> list[int]:
    """Return the live Snakemake processes of this machine that work in a directory.

    Args:
        workdir: The workflow's working directory.

    Returns:
        Process numbers.
    """
    import psutil

    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        is_snakemake = any(Path(word).name == "snakemake" for word in words[:3])
        if is_snakemake and process.info["cwd"] == str(workdir.resolve()):
            found.append(process.info["pid"])
    return found


def free_dead_lock(workdir: Path) -> str:
    """Remove the locks of a dead run.

    Args:
        workdir: The workflow's working directory.

    Returns:
        What was done, for the terminal.

    Raises:
        LockedError: If the owner lives, or ran on another machine where nobody can see it.
    """
    locks = sorted((workdir / ".snakemake" / "locks").glob("*.lock"))
    if not locks:
        return "no lock is held"
    alive = owners(workdir)
    if alive:
        raise LockedError(
            f"{workdir}: locked by a running snakemake (process {', '.join(map(str, alive))}); "
            "allowed: wait for it, or stop it first"
        )
    host_file = workdir / HOST_FILE
    host = host_file.read_text(encoding="utf-8") if host_file.exists() else socket.gethostname()
    if host != socket.gethostname():
        raise LockedError(
            f"{workdir}: locked by a run on {host}, which this machine ({socket.gethostname()}) cannot see; "
            f"allowed: run `oba unlock` on {host}, or `snakemake --unlock` if you know that it is dead"
        )
    for lock in locks:
        lock.unlink(missing_ok=True)
    return f"freed the lock of a run that is no longer alive ({len(locks)} files)"

"""A job's log, which Snakemake deletes when it starts the job a second time while the first goes on.

That happens after a kill: the first one outlived the run that started it, and the second waits for its lock. The rule
sends a job's output to the log; so each process holds a file that is the log, or was it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def kept_log(log: Path) -> Iterator[None]:
    """See to it that what this process says in the block is found in the log afterwards.

    The caller holds the job's lock. Nothing happens to a process whose output goes elsewhere.

    Args:
        log: The job's log.

    Yields:
        Nothing.
    """
    _return_to(log)
    second = log.with_name(f".{log.name}.running")
    if not _is_output(log):
        yield
        return
    with suppress(OSError):  # a file system without hard links
        second.unlink(missing_ok=True)
        os.link(log, second)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            if _is_output(log):
                second.unlink()
            else:
                second.replace(log)


def _return_to(log: Path) -> None:
    """Write to the log again if it is another file by now: the one before took it back when it ended."""
    if os.fstat(2).st_nlink == 0 and log.exists():
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        handle = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.close(handle)


def _is_output(log: Path) -> bool:
    """Tell whether a file is where this process's errors go."""
    try:
        return os.path.samestat(os.fstat(2), log.stat())
    except FileNotFoundError:
        return False

"""A stage's journal: what it reported, one JSON line per event, on disk before anything is sent.

Lines are only ever added, by one process at a time, which holds the journal's lock. Readers ignore a line that a
killed process left unfinished, and the next writer cuts it off. Each line has a checksum (:mod:`oba.tracking.lines`)
and names its attempt, so what is left of a damaged journal is true.
"""

from __future__ import annotations

import fcntl
import os
import socket
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from oba.errors import explain_oserror
from oba.tracking.events import (
    Event,
    Points,
    RunIdentity,
    Status,
    last_points,
    last_tags,
    now_ms,
    read_events,
)
from oba.tracking.limits import clean_tags
from oba.tracking.lines import seal

__all__ = [
    "Attempt",
    "Event",
    "Journal",
    "Points",
    "RunIdentity",
    "Status",
    "adopt",
    "last_points",
    "last_tags",
    "now_ms",
    "read_attempt",
]


@dataclass(frozen=True)
class Attempt:
    """The last attempt at a stage.

    A stage that was killed or failed goes on in the same attempt. A stage that runs again after it had
    finished, or whose identity has another key or attempt, begins a new one, whose run replaces the old one.
    """

    id: str
    """Random, made by the first start."""
    identity: RunIdentity
    """As the latest start gave it, under the parent that adopted it since."""
    upstream: list[Path]
    """Journals of the stages whose results it used."""
    events: list[Event]
    """From the first start on."""
    end: int
    """Position in bytes after the journal's last whole line."""
    host: str
    """The machine of the latest start; empty if a version that did not say so wrote it."""
    job: str
    """The SLURM job of the latest start, if it was one."""

    @property
    def started(self) -> int:
        """Time of the first start, in milliseconds."""
        return self.events[0].time

    @property
    def joined(self) -> int:
        """Since when the stage has its present parent, in milliseconds."""
        return next(event.time for event in reversed(self.events) if event.kind in {"start", "adopt"})

    @property
    def params(self) -> dict[str, str]:
        """All parameters; the first value of each counts, since MLflow lets none change."""
        values: dict[str, str] = {}
        for event in self.events:
            if event.kind == "params":
                values = event.fields["values"] | values
        return values

    @property
    def state(self) -> tuple[Status, int]:
        """The status, and since when, in milliseconds."""
        last = next(event for event in reversed(self.events) if event.kind in {"start", "end"})
        return last.fields.get("status", "RUNNING"), last.time


class Journal:
    """The writing end of a journal; other writers wait for its lock, which the kernel frees when a process dies."""

    def __init__(self, path: Path, *, wait: bool = True) -> None:
        """Open a journal to add to it; the file and its folders are made if missing.

        Args:
            path: The journal.
            wait: Whether to wait while another process holds the journal; otherwise ``BlockingIOError`` is raised.
        """
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._attempt: dict[str, str] = {}
        self._stream = self.path.open("ab")
        self._failed, self._turn = False, Lock()
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BaseException:
            self._stream.close()
            raise
        self._stream.truncate(self.path.read_bytes().rfind(b"\n") + 1)

    def start(self, identity: RunIdentity, upstream: Iterable[Path] = (), *, again: bool = False) -> None:
        """Report that the stage starts, or goes on, and which journals' stages it builds on.

        Args:
            identity: The stage's run.
            upstream: The journals.
            again: Whether to go on in the same run even if it had finished.
        """
        last = read_attempt(self.path)
        goes_on = last and (again or last.state[0] != "FINISHED") and _same(last.identity, identity)
        self._attempt = {"attempt": last.id if last and goes_on else uuid.uuid4().hex}
        # Relative, because results may be moved.
        names = [os.path.relpath(path, self.path.parent) for path in upstream]
        process = {"host": socket.gethostname(), "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID", "")}
        self.write("start", identity=identity.to_json(), upstream=names, **process)
        self.write("tags", values=clean_tags(identity.tags))

    def write(self, kind: str, *, gives_up: bool = True, **fields: Any) -> None:
        """Add one event of plain values and flush it to the disk; threads take turns.

        Args:
            kind: The kind of event.
            gives_up: Whether a failure, which is raised, is the job's: then what follows it is not written.
            fields: The values.

        Raises:
            OSError: If the disk is full, and the like.
        """
        if self._failed:
            return  # The job ends with the first failure, which is told; what it says while it ends has no place.
        line = seal({"event": kind, "time": now_ms(), **self._attempt, **fields}) + b"\n"
        try:
            with self._turn:
                self._stream.write(line)
                self._stream.flush()
                os.fsync(self._stream.fileno())
        except OSError as error:
            # What could not be written stays in the buffer: the next to write meets the same full disk.
            self._failed = gives_up
            if not gives_up:
                raise
            with suppress(OSError):  # it writes the rest
                self._stream.close()
            raise explain_oserror(error, self.path) or error from error

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def adopt(journal: Path, parent: RunIdentity) -> None:
    """Show a finished stage, and those it builds on, under a newer attempt of their chain.

    Such a stage did not run again, because what changed in the chain does not concern it. A stage of another
    chain, or of none, is left alone, and so is one that has just started again: it names its parent itself.
    """
    attempt = read_attempt(journal) if journal.exists() else None
    if attempt is None or attempt.state[0] != "FINISHED" or attempt.identity.parent is None:
        return
    old = attempt.identity.parent
    if (old.experiment, old.key) != (parent.experiment, parent.key) or old.attempt == parent.attempt:
        return
    for path in attempt.upstream:
        adopt(path, parent)
    try:
        book = Journal(journal, wait=False)
    except BlockingIOError:
        return
    book.write("adopt", attempt=attempt.id, parent=parent.to_json())
    book.close()


def read_attempt(path: Path) -> Attempt | None:
    """Read the last attempt from a journal, or return ``None`` if no stage ever started there."""
    events, end = read_events(path)
    last = next((event for event in reversed(events) if event.kind == "start"), None)
    if last is None:
        return None
    identity = RunIdentity.from_json(last.fields["identity"])
    mine = [event for event in events if event.attempt == last.attempt]
    for event in mine[mine.index(last) :]:
        if event.kind == "adopt":
            identity = replace(identity, parent=RunIdentity.from_json(event.fields["parent"]))
    upstream = [Path(path).parent / name for name in last.fields.get("upstream", [])]
    host, job = last.fields.get("host", ""), last.fields.get("job", "")
    return Attempt(last.attempt, identity, upstream, mine, end, host, job)


def _same(a: RunIdentity, b: RunIdentity) -> bool:
    """Return whether two identities stand for one run."""
    return (a.experiment, a.key, a.attempt) == (b.experiment, b.key, b.attempt)

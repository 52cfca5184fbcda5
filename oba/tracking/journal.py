"""A stage's journal: what it reported, one JSON line per event, on disk before anything is sent.

Lines are only ever added. Readers ignore a line that a killed process left unfinished, and the next writer
cuts it off.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from oba.errors import explain_oserror
from oba.tracking.limits import clean_tags

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
Points = dict[tuple[str, int], tuple[float, int]]
"""Metrics: by name and step, the value and its time in milliseconds."""


def now_ms() -> int:
    """Return the current time in milliseconds since the epoch, as MLflow counts."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class RunIdentity:
    """The run of a stage or chain: the same one when the stage is started again.

    Attributes:
        experiment: The MLflow experiment.
        key: What the run is found by in the experiment (tag ``stage_key``), for example a path.
        name: The name that people see.
        parent: The run that this one is shown under.
        tags: Further tags; empty ones are left out.
        attempt: Names all that the results depend on, for example a digest; a run with another name replaces
            the earlier one. Not empty.
    """

    experiment: str
    key: str
    name: str
    parent: RunIdentity | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    attempt: str = "1"

    def __post_init__(self) -> None:
        """Refuse keys that MLflow's search language cannot quote."""
        if "'" in self.key:
            raise ValueError(f"key {self.key!r} has a quotation mark; allowed: text without any")

    def to_json(self) -> dict[str, Any]:
        """Return the identity as plain values."""
        return vars(self) | {"parent": self.parent.to_json() if self.parent else None, "tags": dict(self.tags)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_json` returned."""
        return cls(**{**value, "parent": cls.from_json(value["parent"]) if value["parent"] else None})


@dataclass(frozen=True)
class Event:
    """One line of a journal."""

    kind: str
    """``start``, ``params``, ``tags``, ``metrics``, ``chain``, ``artifact``, ``end`` or ``adopt``."""
    time: int
    """Milliseconds since the epoch."""
    fields: dict[str, Any]
    """What the kind of event carries."""
    end: int
    """Position in bytes after the line."""


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

    @property
    def started(self) -> int:
        """Time of the first start, in milliseconds."""
        return self.events[0].time

    @property
    def joined(self) -> int:
        """Since when the stage has its present parent, in milliseconds."""
        return next(event.time for event in reversed(self.events) if event.kind in {"start", "adopt"})

    @property
    def end(self) -> int:
        """Position in bytes after the last event."""
        return self.events[-1].end

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


def last_tags(events: Sequence[Event]) -> dict[str, str]:
    """Return the last value of each tag that events set."""
    return {key: value for event in events if event.kind == "tags" for key, value in event.fields["values"].items()}


def last_points(events: Sequence[Event], kind: str) -> Points:
    """Return the last value and time of each point that events of a kind report: ``metrics`` or ``chain``."""
    return {
        (key, event.fields["step"]): (value, event.time)
        for event in events
        if event.kind == kind
        for key, value in event.fields["values"].items()
    }


class Journal:
    """The writing end of a journal; one process at a time."""

    def __init__(self, path: Path) -> None:
        """Open a journal to add to it; the file and its folders are made if missing."""
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self.path.open("ab")
        self._failed = False
        self._stream.truncate(self.path.read_bytes().rfind(b"\n") + 1)

    def start(self, identity: RunIdentity, upstream: Iterable[Path] = ()) -> None:
        """Report that the stage starts, or goes on, and which journals' stages it builds on."""
        last = read_attempt(self.path)
        goes_on = last and last.state[0] != "FINISHED" and _same(last.identity, identity)
        attempt = last.id if last and goes_on else uuid.uuid4().hex
        # Relative, because results may be moved.
        names = [os.path.relpath(path, self.path.parent) for path in upstream]
        self.write("start", attempt=attempt, identity=identity.to_json(), upstream=names)
        self.write("tags", values=clean_tags(identity.tags))

    def write(self, kind: str, **fields: Any) -> None:
        """Add one event of plain values and flush it to the disk."""
        if self._failed:
            return  # The job ends with the first failure, which is told; what it says while it ends has no place.
        line = json.dumps({"event": kind, "time": now_ms(), **fields}) + "\n"
        try:
            self._stream.write(line.encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            self._failed = True
            with suppress(OSError):  # it writes the rest
                self._stream.close()
            raise explain_oserror(error, self.path) or error from error

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def adopt(journal: Path, parent: RunIdentity) -> None:
    """Show a finished stage, and those it builds on, under a newer attempt of their chain.

    Such a stage did not run again, because what changed in the chain does not concern it. A stage of another
    chain, or of none, is left alone.
    """
    attempt = read_attempt(journal) if journal.exists() else None
    if attempt is None or attempt.state[0] != "FINISHED" or attempt.identity.parent is None:
        return
    old = attempt.identity.parent
    if (old.experiment, old.key) != (parent.experiment, parent.key) or old.attempt == parent.attempt:
        return
    for path in attempt.upstream:
        adopt(path, parent)
    book = Journal(journal)
    book.write("adopt", parent=parent.to_json())
    book.close()


def read_attempt(path: Path) -> Attempt | None:
    """Read the last attempt from a journal, or return ``None`` if no stage ever started there."""
    events = _read_events(path)
    starts = [event for event in events if event.kind == "start"]
    if not starts:
        return None
    last = starts[-1].fields
    first = next(event for event in starts if event.fields["attempt"] == last["attempt"])
    identity = RunIdentity.from_json(last["identity"])
    for event in events[events.index(starts[-1]) :]:
        if event.kind == "adopt":
            identity = replace(identity, parent=RunIdentity.from_json(event.fields["parent"]))
    upstream = [Path(path).parent / name for name in last.get("upstream", [])]
    return Attempt(last["attempt"], identity, upstream, events[events.index(first) :])


def _same(a: RunIdentity, b: RunIdentity) -> bool:
    """Return whether two identities stand for one run."""
    return (a.experiment, a.key, a.attempt) == (b.experiment, b.key, b.attempt)


def _read_events(path: Path) -> list[Event]:
    """Read all whole lines; what is no JSON was destroyed with its disk block and is passed over."""
    events: list[Event] = []
    end = 0
    for line in Path(path).read_bytes().split(b"\n")[:-1]:
        end += len(line) + 1
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        events.append(Event(fields.pop("event"), fields.pop("time"), fields, end))
    return events

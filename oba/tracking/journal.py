"""A stage's journal: what it reported, one JSON line per event, on disk before anything is sent.

Lines are only ever added. A line that a killed process left unfinished is ignored by readers and cut off
by the next writer.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from oba.tracking.limits import clean_tags

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
Points = dict[tuple[str, int], tuple[float, int]]
"""Metrics: by name and step, the value and its time in milliseconds."""


def now_ms() -> int:
    """Return the current time in milliseconds since the epoch, as MLflow counts."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class RunIdentity:
    """Which run: the same again when its stage is started again.

    Attributes:
        experiment: The MLflow experiment.
        key: What the run is found by in the experiment (tag ``stage_key``), for example a path.
        name: What people see.
        parent: The run that this one is shown under.
        tags: Further tags; empty ones are left out.
    """

    experiment: str
    key: str
    name: str
    parent: RunIdentity | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse keys that MLflow's search language cannot quote.

        Raises:
            ValueError: If the key has a quotation mark.
        """
        if "'" in self.key:
            raise ValueError(f"key {self.key!r} has a quotation mark; allowed: text without any")

    def to_json(self) -> dict[str, Any]:
        """Return the identity as plain values."""
        parent = self.parent.to_json() if self.parent else None
        return {
            "experiment": self.experiment,
            "key": self.key,
            "name": self.name,
            "parent": parent,
            "tags": dict(self.tags),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read an identity back.

        Args:
            value: What :meth:`to_json` returned.

        Returns:
            The identity.
        """
        parent = cls.from_json(value["parent"]) if value["parent"] else None
        return cls(value["experiment"], value["key"], value["name"], parent, value["tags"])


@dataclass(frozen=True)
class Event:
    """One line of a journal.

    Attributes:
        kind: ``start``, ``params``, ``tags``, ``metrics``, ``chain``, ``artifact`` or ``end``.
        time: Milliseconds since the epoch.
        fields: What the kind of event carries.
        end: Position in bytes after the line.
    """

    kind: str
    time: int
    fields: dict[str, Any]
    end: int


@dataclass(frozen=True)
class Attempt:
    """The last attempt at a stage: all that was reported since it was begun anew.

    A stage that was killed or failed goes on in the same attempt; a stage that runs again after it had
    finished, or under another key, begins a new one, whose run replaces the old.

    Attributes:
        id: Random, made by the first start.
        identity: As the latest start gave it.
        events: From the first start on.
    """

    id: str
    identity: RunIdentity
    events: list[Event]

    @property
    def started(self) -> int:
        """Time of the first start, in milliseconds."""
        return self.events[0].time

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
    """Return the tags that events set.

    Args:
        events: Part of a journal.

    Returns:
        The last value of each.
    """
    return {key: value for event in events if event.kind == "tags" for key, value in event.fields["values"].items()}


def last_points(events: Sequence[Event], kind: str) -> Points:
    """Return the metrics that events report.

    Args:
        events: Part of a journal.
        kind: ``metrics``, or ``chain`` for those of the parent run.

    Returns:
        By name and step, the last value with its time in milliseconds.
    """
    return {
        (key, event.fields["step"]): (value, event.time)
        for event in events
        if event.kind == kind
        for key, value in event.fields["values"].items()
    }


class Journal:
    """The writing end of a journal; one process at a time."""

    def __init__(self, path: Path) -> None:
        """Open a journal to add to it.

        Args:
            path: The file; made if missing, with its folders.
        """
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self.path.open("ab")
        self._stream.truncate(self.path.read_bytes().rfind(b"\n") + 1)

    def start(self, identity: RunIdentity) -> None:
        """Report that the stage starts, or goes on.

        Args:
            identity: Its run.
        """
        last = read_attempt(self.path)
        same = last and (last.identity.experiment, last.identity.key) == (identity.experiment, identity.key)
        goes_on = last and same and last.state[0] != "FINISHED"
        attempt = last.id if last and goes_on else uuid.uuid4().hex
        self.write("start", attempt=attempt, identity=identity.to_json())
        self.write("tags", values=clean_tags(identity.tags))

    def write(self, kind: str, **fields: Any) -> None:
        """Add one event and flush it to the disk.

        Args:
            kind: The kind of event.
            **fields: Plain values.
        """
        line = json.dumps({"event": kind, "time": now_ms(), **fields}) + "\n"
        self._stream.write(line.encode())
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_attempt(path: Path) -> Attempt | None:
    """Read the last attempt from a journal.

    Args:
        path: The file.

    Returns:
        The attempt, or ``None`` if no stage ever started here.
    """
    events = _read_events(path)
    starts = [event for event in events if event.kind == "start"]
    if not starts:
        return None
    attempt = starts[-1].fields["attempt"]
    first = next(event for event in starts if event.fields["attempt"] == attempt)
    return Attempt(
        id=attempt,
        identity=RunIdentity.from_json(starts[-1].fields["identity"]),
        events=events[events.index(first) :],
    )


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

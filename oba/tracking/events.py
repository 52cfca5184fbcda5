"""What a journal's lines say, and reading them: a damaged line costs that line and a warning."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from oba.tracking.limits import DATASET_DIGEST, DATASET_NAME, MODEL_NAME
from oba.tracking.lines import unseal

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
Points = dict[tuple[str, int], tuple[float, int]]
"""Metrics: by name and step, the value and its time in milliseconds."""
_logger = logging.getLogger(__name__)


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
        params: Parameters, of a chain: a stage reports its own.
    """

    experiment: str
    key: str
    name: str
    parent: RunIdentity | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    attempt: str = "1"
    params: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse keys that MLflow's search language cannot quote."""
        if "'" in self.key:
            raise ValueError(f"key {self.key!r} has a quotation mark; allowed: text without any")

    def to_json(self) -> dict[str, Any]:
        """Return the identity as plain values."""
        parent = self.parent.to_json() if self.parent else None
        return vars(self) | {"parent": parent, "tags": dict(self.tags), "params": dict(self.params)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_json` returned."""
        return cls(**{**value, "parent": cls.from_json(value["parent"]) if value["parent"] else None})


@dataclass(frozen=True)
class Event:
    """One line of a journal."""

    kind: str
    """A key of ``_KINDS``, such as ``start`` or ``metrics``."""
    time: int
    """Milliseconds since the epoch."""
    fields: dict[str, Any]
    """What the kind of event carries."""
    end: int
    """Position in bytes after the line."""
    attempt: str
    """The attempt that it belongs to: its own, else that of the latest start before it."""


def _within(path: str) -> str:
    """Refuse a path that leads out of the folder that it is relative to."""
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError(f"{path!r} leads out of the results")
    return path


class _Identity(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    experiment: str
    key: Annotated[str, Field(pattern="^[^']*$")]
    name: str
    parent: _Identity | None
    tags: dict[str, str] = {}
    attempt: str = "1"
    params: dict[str, str] = {}


class _Line(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", validate_default=True)
    event: str
    time: int
    attempt: str = ""


class _Start(_Line):
    attempt: Annotated[str, Field(min_length=1)] = ""
    identity: _Identity
    upstream: list[str] = []
    host: str = ""
    pid: int = 0
    job: str = ""


class _Texts(_Line):
    values: dict[str, str]


class _Numbers(_Line):
    step: int
    values: dict[str, float]


class _Artifact(_Line):
    path: Annotated[str, AfterValidator(_within)]
    folder: str | None


class _Dataset(_Line):
    name: Annotated[str, Field(min_length=1, max_length=DATASET_NAME)]
    digest: Annotated[str, Field(min_length=1, max_length=DATASET_DIGEST)]
    source: str
    profile: dict[str, int]
    context: str


class _Model(_Line):
    name: Annotated[str, Field(pattern=MODEL_NAME)]
    folder: Annotated[str, AfterValidator(_within)]
    files: list[Annotated[str, AfterValidator(_within)]]
    loader: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]
    inputs: list[int]
    outputs: int
    values: dict[str, str]


class _End(_Line):
    status: Status


class _Adopt(_Line):
    parent: _Identity


_KINDS: dict[str, type[_Line]] = {"start": _Start, "params": _Texts, "tags": _Texts, "metrics": _Numbers}
_KINDS |= {"chain": _Numbers, "artifact": _Artifact, "end": _End, "adopt": _Adopt}
_KINDS |= {"dataset": _Dataset, "model": _Model, "experiment": _Texts}


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


def read_events(path: Path) -> tuple[list[Event], int]:
    """Read all whole lines of a journal that are not damaged; also return the position after the last whole line."""
    events: list[Event] = []
    end, attempt, all_sealed = 0, "", False
    for number, line in enumerate(Path(path).read_bytes().split(b"\n")[:-1], 1):
        end += len(line) + 1
        fields, sealed = unseal(line)
        # Whoever seals lines seals all: a later one without a seal has lost it.
        fields = None if all_sealed and not sealed else fields
        all_sealed |= sealed
        if fields is None or not _is_event(fields):
            _warn_once(path, number)
            continue
        attempt = fields.get("attempt", attempt)
        events.append(Event(fields.pop("event"), fields.pop("time"), fields, end, attempt))
    return events, end


def _is_event(fields: Mapping[str, Any]) -> bool:
    """Return whether a line's fields are those of its kind."""
    kind = fields.get("event")
    if not isinstance(kind, str) or kind not in _KINDS:
        return False
    try:
        _KINDS[kind].model_validate(fields)
    except ValidationError:
        return False
    return True


_warned: set[tuple[str, int]] = set()


def _warn_once(path: Path, number: int) -> None:
    """Tell of a damaged line; a journal is read again and again."""
    if (str(path), number) not in _warned:
        _warned.add((str(path), number))
        _logger.warning("%s: line %d is damaged and passed over; what it reported is not sent to MLflow", path, number)

"""Signs of life of one job: its journal, its process, the newest state that it saved, its log.

Nothing is locked to find out, so no job ever waits for somebody who looks.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oba.dag import Stage
from oba.errors import FileError
from oba.files import read_json
from oba.layout import Coordinates, Layout
from oba.tracking.journal import Attempt, read_attempt

_RECENT = 5
"""Epochs that the time left is estimated from, as in the job's log."""
_HEAD = 1 << 16
"""Bytes of a log in which a training says where it goes on."""
_SNAPSHOT = re.compile(r"(epoch|round)-(\d+)(-.*)?")
_RESUMED = re.compile(r"  resumed (?:at|after) epoch (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Life:
    """What a job's journal says of its last attempt.

    Attributes:
        status: ``RUNNING`` where the journal has no end, else how it ended.
        alive: Whether its process lives; None if that cannot be seen from here.
        host: The machine of the latest start.
        slurm: The SLURM job of the latest start, if it was one.
        key: What its resumable state is kept under.
        since: When the latest start was, in seconds since 1970.
    """

    status: str
    alive: bool | None
    host: str
    slurm: str
    key: str
    since: float


@dataclass(frozen=True)
class Progress:
    """How far an unfinished job is, by what it saved.

    Attributes:
        unit: ``epoch`` or ``round``; empty if nothing is known.
        done: How many are done.
        of: Of how many; 0 if unknown.
        rate: Images per second, of a training.
        left: Seconds to go, if that can be told.
        resumed: The epoch that it went on from, if it was interrupted.
    """

    unit: str = ""
    done: int = 0
    of: int = 0
    rate: float | None = None
    left: float | None = None
    resumed: int | None = None


def life_of(journal: Path) -> Life | None:
    """Read how a job's last attempt is.

    Args:
        journal: The job's journal.

    Returns:
        What it says; None if the job was never started, or the journal is damaged.
    """
    try:
        attempt = read_attempt(journal) if journal.exists() else None
    except (OSError, LookupError, TypeError, ValueError):
        return None  # what a job is doing is no matter of life and death: its results are in other files
    if attempt is None:
        return None
    start = next(event for event in reversed(attempt.events) if event.kind == "start")
    alive = _alive(attempt, start.fields.get("pid"), start.time / 1000)
    return Life(attempt.state[0], alive, attempt.host, attempt.job, attempt.identity.attempt, start.time / 1000)


def progress_of(layout: Layout, stage: Stage, at: Coordinates, life: Life, settings: dict[str, Any]) -> Progress:
    """Tell how far an unfinished job is.

    Args:
        layout: The experiment's paths.
        stage: Its stage.
        at: Its coordinates.
        life: What its journal says.
        settings: The slice of the study that it sees.

    Returns:
        What its newest state says.
    """
    of, unit = _planned(stage, settings)
    if not unit:
        return Progress()
    resumed = resumed_at(layout.log(stage.record(layout, at))) if unit == "epoch" else None
    newest = max(_snapshots(layout.state(stage.record(layout, at)) / life.key), default=None)
    if newest is None:
        return Progress(unit, 0, of, resumed=resumed)
    number, whole, path = newest
    done = number if whole else number - 1
    if unit != "epoch":
        return Progress(unit, done, of)
    try:
        history = read_json(path)["history"]
        recent = [epoch["seconds"] for epoch in history[-_RECENT:]]
        rate = history[-1]["images_per_second"] if history else None
        age = time.time() - max(path.stat().st_mtime, life.since)
    except (FileError, OSError, LookupError, TypeError):
        return Progress(unit, done, of, resumed=resumed)  # it is being replaced by the next one
    left = max(0.0, (of - done) * sum(recent) / len(recent) - age) if recent and of else None
    return Progress(unit, done, of, rate, left, resumed)


def last_sign(layout: Layout, stage: Stage, at: Coordinates, key: str) -> float:
    """Return when a job last wrote anything, in seconds since 1970; 0 if it never did."""
    record = stage.record(layout, at)
    journal = layout.journals / f"{layout.within(record)}.jsonl"
    paths = [journal, layout.log(record), *(path for *_, path in _snapshots(layout.state(record) / key))]
    times = [0.0]
    for path in paths:
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)


def resumed_at(log: Path) -> int | None:
    """Return the epoch at or after which a training went on, as its log says; None if it began at the first."""
    try:
        with log.open(encoding="utf-8", errors="replace") as stream:
            found = _RESUMED.search(stream.read(_HEAD))
    except OSError:
        return None
    return int(found[1]) if found else None


def _snapshots(folder: Path) -> Iterator[tuple[int, bool, Path]]:
    """Return the states in a folder: number, whether all of that epoch or round is done, file."""
    with suppress(OSError):
        for path in folder.iterdir():
            found = _SNAPSHOT.fullmatch(path.stem)
            if found and path.suffix == ".json":
                yield int(found[2]), not found[3], path


def _planned(stage: Stage, settings: dict[str, Any]) -> tuple[int, str]:
    """Return of what a job consists, and of how many; 0 where that depends on other nets."""
    if stage.name in {"dense", "finetune"}:
        return int(settings[stage.name]["epochs"]), "epoch"
    if stage.name == "prune":
        return int((settings["method"] or {}).get("rounds", 0)), "round"
    return 0, "epoch" if stage.name == "scratch" else ""


def _alive(attempt: Attempt, pid: object, since: float) -> bool | None:
    """Tell whether the process of the latest start lives; a later process may have its number."""
    import psutil

    if attempt.host != socket.gethostname() or not isinstance(pid, int):
        return None
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= since + 1
    except psutil.Error:
        return False

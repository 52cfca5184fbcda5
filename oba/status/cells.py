"""The jobs of a sweep and how far each is: done, running, failed, stopped, out of date, waiting."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from oba.layout import Coordinates
from oba.training.progress import duration

SILENT = 3600.0
"""Seconds without a sign after which a job of another machine may be dead: a training saves every ten minutes."""


class State(StrEnum):
    """How a job is."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    STOPPED = "stopped"
    """By a signal, after it had saved: the next run goes on there."""
    BLOCKED = "blocked"
    """Needs the result of one that failed."""
    OUTDATED = "out of date"
    """Finished with other settings, code or inputs: the next run makes it again."""
    WAITING = "waiting"


@dataclass(frozen=True)
class Cell:
    """One job of a sweep.

    Attributes:
        stage: Name of its stage.
        at: Its coordinates.
        name: What people call it.
        state: How it is.
        note: How far it is, or why it failed, in one line.
        log: Its log.
        seconds: What it took, if it is done; how long it has run, if it runs.
        left: Seconds to go, of a running one, if that can be told.
        sign: Seconds since it last wrote anything, of a running one that this machine cannot see.
    """

    stage: str
    at: Coordinates
    name: str
    state: State
    note: str = ""
    log: Path = Path()
    seconds: float | None = None
    left: float | None = None
    sign: float | None = None

    @property
    def silent(self) -> bool:
        """Whether it may be dead, on a machine that this one cannot see."""
        return self.sign is not None and self.sign > SILENT

    @property
    def kind(self) -> tuple[str, str]:
        """Jobs of one kind take about as long."""
        return self.stage.removesuffix("_dense"), self.at.model


def left_text(seconds: float | None) -> str:
    """Return a time to go for people."""
    return "time left unknown" if seconds is None else f"about {duration(seconds)} left"

"""The live part of a terminal while a run works: a bar for all jobs, and a line for each that runs."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from oba.dag import Stage
from oba.jobs import Jobs
from oba.layout import Coordinates, name_of
from oba.status.cells import left_text
from oba.status.estimate import Durations, time_left
from oba.status.looker import Looker, past_times, seconds_of
from oba.status.screen import Lines
from oba.status.words import progress_text
from oba.training.progress import duration

_BAR = 24
_LAST = {"collect", "report"}
"""Rules of single, short jobs at the end, which no estimate waits for."""
_SLACK = 2.0
"""Seconds by which the clocks of two machines may differ."""


@dataclass(frozen=True)
class Running:
    """A job as Snakemake announced it.

    Attributes:
        rule: Name of its rule.
        at: Its coordinates.
        name: What people call it.
        error_name: What its log calls it.
        record: The file that it writes last.
        log: Its log.
        times: Where Snakemake keeps its time.
        stages: What it runs, in this order.
        began: When it was announced, in seconds since 1970.
    """

    rule: str
    at: Coordinates
    name: str
    error_name: str
    record: Path
    log: Path
    times: Path | None
    stages: tuple[tuple[Stage, Coordinates], ...]
    began: float

    @classmethod
    def of(cls, record: Any, jobs: Jobs | None) -> Running:
        """Return the job that an event is about.

        Args:
            record: The event.
            jobs: The jobs of the study, if they are known.

        Returns:
            The job.
        """
        words = dict(getattr(record, "wildcards", None) or {})
        seed = int(words.pop("seed")) if "seed" in words else None
        at = Coordinates(**words, seed=seed)
        rule = next((rule for rule in jobs.rules if rule.name == record.rule_name), None) if jobs else None
        stages = tuple(rule.each(at)) if rule else ()
        command = rule.stages[0].module if rule and len(rule.stages) == 1 else record.rule_name
        own = stages[-1][1] if stages else at
        variant = own.variant if command == "evaluate" and own.variant != "finetuned" else ""
        name = name_of(command, replace(own, variant=variant))
        log = Path(record.log[0]) if record.log else Path()
        output = Path(record.output[-1]) if record.output else Path()
        benchmark = getattr(record, "benchmark", None)
        times = Path(benchmark) if benchmark else None
        return cls(record.rule_name, at, name, name_of(command, own), output, log, times, stages, record.created)

    def seconds(self, ended: float) -> float:
        """Return how long a finished job took: on a cluster, without its time in the queue."""
        known = seconds_of(self.times) if self.times else None
        return ended - self.began if known is None else known


class View:
    """What runs at the moment."""

    def __init__(self, screen: Lines) -> None:
        """Show nothing yet."""
        self._screen = screen
        self._looker: Looker | None = None
        self._running: dict[Any, Running] = {}
        self._left: Counter[str] = Counter()
        self._durations = Durations()
        self._done, self._began = 0, time.time()
        self.total = 0

    def know(self, jobs: Jobs, *, cluster: bool) -> None:
        """Be told of the jobs of the study, whose states can be looked at then."""
        self._looker = Looker(jobs, elsewhere=cluster)
        for rule, seconds in past_times(jobs):
            self._durations.add(_kind(rule), seconds)

    def plan(self, counts: dict[str, int]) -> None:
        """Be told how many jobs of each rule there are."""
        self._left, self.total = Counter(counts), sum(counts.values())

    def start(self, number: Any, job: Running) -> None:
        """Show a job."""
        self._running = {**self._running, number: job}
        self._left[job.rule] -= 1
        self._screen.show(self.draw)

    def end(self, number: Any, seconds: float | None) -> None:
        """Show a job no more, which took some seconds if it is done."""
        job = self._running.get(number)
        self._running = {other: value for other, value in self._running.items() if other != number}
        if job is not None and seconds is not None:
            self._done += 1
            self._durations.add(_kind(job.rule), seconds)
        elif job is not None:
            self._left[job.rule] += 1

    def hide(self) -> None:
        """Leave the terminal to others."""
        self._screen.hide()

    def draw(self) -> RenderableType:
        """Draw the bar and the jobs; whatever cannot be read is left out."""
        try:
            return self._draw()
        except Exception as error:  # in rich's thread, where nobody would hear of it, and the view would stand still
            return Text(f"the view failed ({type(error).__name__}: {error}); the run goes on", "yellow")

    def _draw(self) -> RenderableType:
        now = time.time()
        running = list(self._running.values())
        looks = [self._look(job, now) for job in running]
        both = list(zip(running, looks, strict=True))
        long = [(job, look) for job, look in both if job.rule not in _LAST]
        started = [(_kind(job.rule), elapsed, left) for job, (_, elapsed, left) in long if elapsed]
        queued = [job.rule for job, (_, elapsed, _) in long if not elapsed]
        waiting = [_kind(rule) for rule in (*(+self._left).elements(), *queued) if rule not in _LAST]
        almost = bool(running) and not long and not waiting
        left = "almost done" if almost else left_text(time_left(waiting, started, self._durations))
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(max(self.total, 1), self._done, width=_BAR),
            Text(f"{self._done:,}/{self.total:,} jobs  {duration(now - self._began)}  {left}", no_wrap=True),
        )
        console = getattr(self._screen, "console", None)
        most = max(1, (console.height if console else 24) // 2 - 2)
        rows = Table.grid(padding=(0, 2, 0, 0))
        rows.add_column(no_wrap=True, overflow="ellipsis")
        rows.add_column(no_wrap=True, overflow="ellipsis")
        for job, (note, _, _) in both[:most]:
            rows.add_row(Text(job.name, "bold"), Text(note, "cyan"))
        if len(running) > most:
            rows.add_row(Text(f"and {len(running) - most:,} more", "dim"), Text())
        return Group(head, rows)

    def _look(self, job: Running, now: float) -> tuple[str, float, float | None]:
        """Return what a job does, for how many seconds, and for how many more; 0 seconds while it waits in a queue."""
        newest = None
        for stage, at in job.stages if self._looker else ():
            assert self._looker is not None
            record = stage.record(self._looker.layout, at)
            life = self._looker.life(record)
            if life and life.status == "RUNNING" and life.since >= job.began - _SLACK:
                newest = stage, at, life
        if newest is None or self._looker is None:
            local = self._looker is None or not self._looker.is_elsewhere
            return ("starting" if local else "in the queue"), (now - job.began if local else 0.0), None
        stage, at, life = newest
        progress = self._looker.progress(stage, at, life)
        where = f"on {life.host}" if self._looker.is_elsewhere else ""
        note = "  ".join(part for part in (progress_text(progress), where) if part)
        alone = len(job.stages) == 1
        return note or duration(now - life.since), now - life.since, progress.left if alone else None


def _kind(rule: str) -> str:
    """Return what jobs of a rule take about as long as."""
    return rule.removesuffix("_dense")

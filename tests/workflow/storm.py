"""A kill storm: jobs, Snakemake and the whole process group are killed at random moments, and the run is started again.

What is killed is found among the processes that work in the project's folder, and the stages by their command lines, so
the storm knows neither rules nor paths. ``storms.py`` runs one after the other.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import mean

import psutil
import yaml

from oba.locks import LockedError, runs_workflow

STUDY = {
    "experiment": "storm",
    "data": {"name": "digits"},
    "calibration": {"images": 64},
    "models": ["resnet8"],
    "seeds": [0],
    "methods": [
        "taylor",
        {"name": "smallest", "criterion": "magnitude", "granularity": "weights", "update": "none"},
    ],
    "keep": [0.7, 0.4],
    "controls": ["scratch", "dense-longer"],
    "dense": {"epochs": 6, "batch_size": 128},
    "finetune": {"epochs": 3, "batch_size": 128, "lr": 0.01, "select": "best"},
    "method_defaults": {"keep_scores": True, "rounds": 2},
    "evaluation": {"latency_runs": 3},
    "runtime": {"device": "cpu"},
}
"""All kinds of stages, in trainings that are long enough to be hit."""
STAGES = {"prepare", "split", "trace", "dense", "prune", "finetune", "scratch", "evaluate", "collect", "report"}
VICTIMS = ("job", "snakemake", "group")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
PLANNING = "planning"
"""What hits are counted under that came before the first job of a run."""
_POLL = 0.05
_PATIENCE = 300.0
"""Seconds in which a run must start another process, or end."""

Jobs = Mapping[psutil.Process, str]
"""Live processes of `oba`, with their commands."""


@dataclass(frozen=True)
class Hit:
    """One kill, some seconds after the stage's process was seen first."""

    stage: str
    victim: str
    signal: str
    after: float


@dataclass(frozen=True)
class _Aim:
    """A kill to come."""

    stage: str
    target: psutil.Process | None
    since: float
    moment: float


def write_study(root: Path, job_per: str = "stage") -> None:
    """Write the study into a project."""
    (root / "tiny.yaml").write_text(yaml.safe_dump(STUDY | {"job_per": job_per}))


@dataclass
class Storm:
    """A project, and what was done to it.

    Attributes:
        root: Its folder.
        environment: Of its processes.
        hits: The kills so far.
        unprovoked: What runs printed last that failed although nothing was killed in them.
    """

    root: Path
    environment: Mapping[str, str]
    hits: list[Hit] = field(default_factory=list)
    unprovoked: list[str] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """What all runs print."""
        return self.root / "storm.log"

    def calm(self) -> dict[str, float]:
        """Run to the end without a kill; return how long the processes of each command lived, on average."""
        first: dict[psutil.Process, float] = {}
        lived: dict[tuple[str, psutil.Process | None], float] = {}
        with self._started() as run:
            start = time.monotonic()
            for jobs in self._watch(run):
                now = time.monotonic()
                lived |= {(stage, process): now - first.setdefault(process, now) for process, stage in jobs.items()}
                if not first:
                    lived[PLANNING, None] = now - start
        assert run.returncode == 0, self._tail()
        return {name: mean(t for (stage, _), t in lived.items() if stage == name) for name, _ in lived}

    def rage(self, lives: Mapping[str, float], each: int, rng: random.Random, *, enough: int = sys.maxsize) -> None:
        """Run with kills, always started again at once, until a run ends well that had none, and no orphan lives.

        Args:
            lives: By command, how long its processes live: a moment is drawn from that, and a little more.
            each: How often each stage is hit, at most; what comes before and after all stages, half as often.
            rng: What moments, victims and signals are drawn from.
            enough: The number of kills after which, once every stage was hit, there are no more.
        """
        parts = {command: len(stages([command]) & STAGES) for command in lives}
        left = Counter({command: each * count if count else (each + 1) // 2 for command, count in parts.items()})
        blows = _in_turns(list(product((*VICTIMS, "job"), SIGNALS)), rng)  # jobs most often: they die most often
        while True:
            before = len(self.hits)
            if before >= enough and stages(hit.stage for hit in self.hits) >= STAGES:
                left.clear()
            with self._started() as run:
                self._strike(run, lives, left, blows, rng)
            if before < len(self.hits) or run.returncode == LockedError.exit_code:
                continue
            if run.returncode == 0:
                break
            self.unprovoked.append(self._tail())
            assert len(self.unprovoked) < 5, self.unprovoked
        deadline = time.monotonic() + _PATIENCE
        while self._jobs():
            assert time.monotonic() < deadline, f"orphans are left: {self._jobs()}"
            time.sleep(_POLL)

    def _strike(
        self,
        run: subprocess.Popen[bytes],
        lives: Mapping[str, float],
        left: Counter[str],
        blows: Iterator[tuple[str, str]],
        rng: random.Random,
    ) -> None:
        """Watch one run and kill at random moments."""

        def aim(stage: str, target: psutil.Process | None) -> _Aim:
            now = time.monotonic()
            return _Aim(stage, target, now, now + rng.uniform(0, 1.1 * lives[stage]))

        # The start of a run is met most often: spread its hits.
        current = aim(PLANNING, None) if left[PLANNING] > 0 and rng.random() < 0.3 else None
        for jobs in self._watch(run):
            target = self._next_target(jobs, lives, left)
            better = target is not None and not self._was_hit(jobs[target])
            if current is None or (current.target is None and jobs) or (better and self._was_hit(current.stage)):
                current = aim(jobs[target], target) if target else None
            if current is None or time.monotonic() < current.moment:
                continue
            victim, name = next(blows)
            done = self._kill(run, victim, signal.Signals[name], current.target)
            if done:
                left[current.stage] -= 1
                self.hits.append(Hit(current.stage, done, name, round(time.monotonic() - current.since, 2)))
                with self.log.open("a") as stream:
                    stream.write(f"=== {self.hits[-1]}\n")
            current = None

    def _next_target(self, jobs: Jobs, lives: Mapping[str, float], left: Mapping[str, int]) -> psutil.Process | None:
        """Return a process of a stage that was not hit yet, if there is one; the shortest lived is gone first."""
        likely = [process for process, stage in jobs.items() if left.get(stage, 0) > 0]
        return min(likely, key=lambda process: (self._was_hit(jobs[process]), lives[jobs[process]]), default=None)

    def _was_hit(self, stage: str) -> bool:
        return any(hit.stage == stage for hit in self.hits)

    def _kill(self, run: subprocess.Popen[bytes], victim: str, number: int, job: psutil.Process | None) -> str:
        """Send a signal; where a job, or Snakemake, is gone already, the group gets it. Return who got it, if any."""
        found = {"job": job, "snakemake": self._snakemake()}.get(victim)
        try:
            if found is not None:
                found.send_signal(number)
                return victim
        except psutil.NoSuchProcess:
            pass
        try:
            os.killpg(run.pid, number)
        except ProcessLookupError:
            return ""
        return "group"

    @contextmanager
    def _started(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start the run in a group of its own, whose processes take SIGINT also where this one ignores it."""
        command = [sys.executable, "-m", "oba", "run", "tiny.yaml", "--cores", "2"]
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with self.log.open("ab") as stream:
                run = subprocess.Popen(
                    command,
                    cwd=self.root,
                    env=dict(self.environment),
                    stdout=stream,
                    stderr=stream,
                    start_new_session=True,
                )
        finally:
            signal.signal(signal.SIGINT, before)
        try:
            yield run
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()

    def _watch(self, run: subprocess.Popen[bytes]) -> Iterator[Jobs]:
        """Yield the live jobs, orphans among them, until a run ends; one that does nothing for long is a fault."""
        seen: set[psutil.Process] = set()
        deadline = time.monotonic() + _PATIENCE
        while run.poll() is None:
            jobs = self._jobs()
            if not jobs.keys() <= seen:
                seen |= jobs.keys()
                deadline = time.monotonic() + _PATIENCE
            assert time.monotonic() < deadline, f"nothing happens: {jobs}\n{self._tail()}"
            yield jobs
            time.sleep(_POLL)

    def _jobs(self) -> dict[psutil.Process, str]:
        found = {}
        for process, words in self._processes():
            if command := _oba_command(words):
                found[process] = command
        return found

    def _snakemake(self) -> psutil.Process | None:
        return next((process for process, words in self._processes() if runs_workflow(words)), None)

    def _processes(self) -> Iterator[tuple[psutil.Process, list[str]]]:
        """Find the processes that work in the project's folder, with their command lines."""
        for pid in psutil.pids():
            try:
                process = psutil.Process(pid)
                if process.cwd() == str(self.root):
                    yield process, process.cmdline()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])


def _oba_command(words: list[str]) -> str:
    """Return the command of a process of `oba` that is a job or reports one; nothing for others."""
    names = [Path(word).name for word in words[:3]]
    command = words[names.index("oba") + 1 :][:1] if "oba" in names else []
    return command[0] if command and command[0] != "run" else ""


def _in_turns(values: list[tuple[str, str]], rng: random.Random) -> Iterator[tuple[str, str]]:
    """Repeat values in ever other orders."""
    while True:
        yield from rng.sample(values, len(values))


def stages(commands: Iterable[str]) -> set[str]:
    """Return the stages that commands run, one or several together (``prune+finetune``)."""
    return {stage for command in commands for stage in command.split("+")}


def table(hits: list[Hit]) -> str:
    """Return how often which stage was hit through whom, as Markdown."""
    counts = Counter((hit.stage, f"{hit.victim} {hit.signal}") for hit in hits)
    kinds = [f"{victim} {name}" for victim, name in product(VICTIMS, SIGNALS)]
    lines = [f"| stage | {' | '.join(kinds)} |", f"|---|{'---:|' * len(kinds)}"]
    for stage in dict.fromkeys(hit.stage for hit in hits):
        lines.append(f"| {stage} | {' | '.join(str(counts[stage, kind]) for kind in kinds)} |")
    return "\n".join(lines)

"""The parent runs of chains: for each chain one current run, on which every point stands once.

MLflow can neither move nor remove a point. A run whose points no longer hold is therefore replaced: when the
chain gets another attempt (other settings, code or data), and when a stage that ran again in the same attempt
reports another value for a point that is there already.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from oba.tracking.journal import Attempt, Points, RunIdentity, last_points, now_ms, read_attempt
from oba.tracking.limits import clean_params, clean_tags
from oba.tracking.store import ATTEMPT, PARENT, REVIVED, SUPERSEDED, Store, is_current

if TYPE_CHECKING:
    from mlflow.entities import Run


class ChainPoints:
    """What the stages of all chains report to their parents; their journals are read on first need."""

    def __init__(self, journals: Iterable[Path]) -> None:
        """Remember the journals."""
        self._journals = list(journals)

    def of(self, chain: RunIdentity) -> Points:
        """Return the points of a chain's attempt."""
        return self._all.get((chain.experiment, chain.key, chain.attempt), {})

    @cached_property
    def _all(self) -> dict[tuple[str, str, str], Points]:
        found: dict[tuple[str, str, str], Points] = {}
        for attempt in map(read_attempt, self._journals):
            if attempt and (chain := attempt.identity.parent):
                place = chain.experiment, chain.key, chain.attempt
                found[place] = _latest(found.get(place, {}), last_points(attempt.events, "chain"))
        return found


class Chain:
    """The parent run of one attempt at a chain. Other processes wait while one changes it."""

    def __init__(self, store: Store, identity: RunIdentity) -> None:
        """Look at a chain in an open store."""
        self._store = store
        self._identity = identity

    def send(self, child: Run, attempt: Attempt, reported: ChainPoints | None) -> bool:
        """Show a stage's run under the chain's, send its points, end the chain with its last stage; say if all went."""
        with self._store.connection.exclusive():
            run = self._find(attempt.joined)
            if run is None:
                return True
            lacking = {k: v for k, v in clean_params(self._identity.params).items() if k not in run.data.params}
            if lacking:
                self._store.log(run.info.run_id, params=lacking)
            if child.data.tags.get(PARENT) != run.info.run_id:
                self._store.log(child.info.run_id, tags={PARENT: run.info.run_id})
            started, ended = run.info.start_time, run.info.end_time or 0
            points = last_points(attempt.events, "chain")
            had = self._store.history(run, {key for key, _ in points})
            if any(_contradicts(point, had[place]) for place, point in points.items() if place in had):
                # One replacement for all stages that ran again: it waits until the points of all are known.
                if reported is None:
                    return False
                run = self._renew(run, _latest(points, reported.of(self._identity)))
            else:
                self._log(run, {place: point for place, point in points.items() if place not in had})
            status, when = attempt.state
            if status != "RUNNING" and when >= started and when > ended:
                self._store.set_status(run.info.run_id, status, when)
            return True

    def _find(self, joined: int) -> Run | None:
        """Find the attempt's run, or create it; ``None`` if somebody deleted it. One of the chain's runs is current."""
        runs = self._store.runs(self._identity)
        mine = [run for run in runs if run.data.tags.get(ATTEMPT) == self._identity.attempt]
        if not mine:
            return self._create(runs, joined)
        run = max(mine, key=lambda run: run.info.start_time)
        if run.info.lifecycle_stage != "active":
            return None
        others = [other for other in runs if other is not run and is_current(other)]
        # Left by a process that was killed while it replaced a run: half of the new run, or the old one.
        for other in others:
            if other.data.tags.get(ATTEMPT) in {None, self._identity.attempt}:
                self._replace(other, run)
        rivals = [other for other in others if other.data.tags.get(ATTEMPT) not in {None, self._identity.attempt}]
        if SUPERSEDED not in run.data.tags:
            for other in rivals:
                old, new = (other, run) if _since(other) <= max(joined, _since(run)) else (run, other)
                self._replace(old, new)
        elif all(_since(other) < joined for other in rivals):
            self._store.revive(run, joined)
            for other in rivals:
                self._replace(other, run)
        return run

    def _create(self, runs: Sequence[Run], joined: int) -> Run:
        """Create the attempt's run in the place of those of earlier attempts."""
        run = self._store.create(self._identity, started=joined, tags=self._tags() | {ATTEMPT: self._identity.attempt})
        for other in filter(is_current, runs):
            # The journal of an attempt that was given up may arrive after those of the next one.
            old, new = (other, run) if _since(other) <= joined else (run, other)
            self._store.supersede(old, new, joined)
        return run

    def _renew(self, run: Run, points: Points) -> Run:
        """Replace a run by one in whose history some points are others."""
        points = _latest(self._store.history(run, run.data.metrics.keys()), points)
        # Found by its attempt only once it is complete, whenever this process is killed.
        new = self._store.create(self._identity, started=run.info.start_time + 1, tags=self._tags())
        self._store.log(new.info.run_id, params=run.data.params)
        self._log(new, points)
        if run.info.end_time and run.info.status != "RUNNING":
            self._store.set_status(new.info.run_id, run.info.status, run.info.end_time)
        kept = {key: run.data.tags[key] for key in (ATTEMPT, SUPERSEDED, REVIVED) if key in run.data.tags}
        self._store.log(new.info.run_id, tags=kept)
        self._replace(run, new)
        return new

    def _replace(self, old: Run, new: Run) -> None:
        """End a run in favour of another; within an attempt its children follow."""
        if old.data.tags.get(ATTEMPT) == self._identity.attempt:
            for child in filter(is_current, self._store.children(old)):
                self._store.log(child.info.run_id, tags={PARENT: new.info.run_id})
        self._store.supersede(old, new, now_ms())

    def _log(self, run: Run, points: Points) -> None:
        """Send points."""
        self._store.log(run.info.run_id, metrics=[(key, v, t, step) for (key, step), (v, t) in points.items()])

    def _tags(self) -> dict[str, str]:
        return clean_tags(self._identity.tags)


def _since(run: Run) -> int:
    """Return since when a run is the one that counts, in milliseconds."""
    return max(run.info.start_time, int(run.data.tags.get(REVIVED, 0)))


def _latest(*reports: Points) -> Points:
    """Join points; of several for one name and step, the latest counts."""
    latest: Points = {}
    for report in reports:
        for place, point in report.items():
            if place not in latest or point[1] > latest[place][1]:
                latest[place] = point
    return latest


def _contradicts(new: tuple[float, int], old: tuple[float, int]) -> bool:
    """Return whether a later value is another; what is not finite is stored as something else and never is."""
    return new[0] != old[0] and math.isfinite(new[0]) and new[1] > old[1]

"""Passing a journal on: what MLflow does not have yet, once.

MLflow is asked what a run has before anything is added to it, so nothing is sent twice, no matter when a
process was killed. A cursor beside the journal remembers how far it was sent, to which run of which store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from oba.tracking.chain import Chain, ChainPoints
from oba.tracking.cursor import Cursor, read_cursor
from oba.tracking.described import describe
from oba.tracking.journal import Attempt, Event, last_points, last_tags, read_attempt
from oba.tracking.models import NetModel
from oba.tracking.names import SYSTEM
from oba.tracking.store import ATTEMPT, Store, is_current

if TYPE_CHECKING:
    from mlflow.entities import Run

_FOR_THE_CHAIN = {"start", "chain", "end", "adopt"}


@dataclass
class Sent:
    """What one pass over a journal did, in numbers of points, parameters and files."""

    updated: bool = False
    """Whether there was anything new in the journal."""
    metrics: int = 0
    params: int = 0
    artifacts: int = 0
    missing: int = 0
    """Files that are gone, or belong elsewhere, and were not sent."""
    awaited: int = 0
    """Files of a finished stage among those that are gone: they come back when what was lost is put back."""
    busy: bool = False
    """Whether another process is passing on the same journal."""
    deleted: bool = False
    """Whether somebody deleted the run in MLflow; it stays deleted."""


@dataclass
class _Remote:
    """What is known of a run in the store: its points are asked for by name, on first need."""

    run: Run
    created: int
    """When its experiment was."""
    status: str
    noted: Cursor | None
    """The cursor, if it is this run's."""
    params: set[str]
    points: set[tuple[str, int]] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)


class Forwarder:
    """Passes one journal on to one store."""

    def __init__(self, journal: Path, store: Store, reported: ChainPoints | None = None) -> None:
        """Remember the journal, the store and, where all journals are passed on, what they report to chains."""
        self._journal = Path(journal)
        self._lock = FileLock(f"{self._journal}.lock", timeout=2)
        self._store = store
        self._reported = reported
        self._remote: _Remote | None = None

    def forward(self) -> Sent:
        """Send what the store does not have yet."""
        attempt = read_attempt(self._journal)
        if attempt is None:
            return Sent()
        try:
            with self._lock:
                return self._send(attempt)
        except Timeout:
            return Sent(busy=True)
        except BaseException:
            # What the store took in before a call failed is unknown: ask it.
            self._remote = None
            raise

    def _send(self, attempt: Attempt) -> Sent:
        """Send under the journal's lock; the status comes last, so a finished run is a complete one."""
        remote = self._remote = self._remote or self._find(attempt)
        if remote.run.info.lifecycle_stage == "deleted":
            return Sent(deleted=True)
        offset = remote.noted.offset if remote.noted else 0
        pending = [event for event in attempt.events if event.end > offset]
        if not pending:
            self._note(remote, attempt)
            return Sent()
        net = self._net(remote.run, attempt)
        later = net is not None and self._reported is None
        model = net.create() if net and not later else None
        sent = self._send_values(remote, attempt, pending, {"model": model, "data": net.data} if net and model else {})
        for event in pending:
            if event.kind == "artifact":
                self._send_artifact(remote.run, attempt, event, sent)
            elif event.kind == "dataset":
                self._store.use_dataset(remote.run, event.fields)
            elif event.kind == "experiment":
                describe(self._store, attempt.identity.experiment, event.fields["values"])
        if net and model:
            self._count(net.finish(list(last_points(attempt.events, "metrics"))), sent)
        settled = not later
        if attempt.identity.parent and _FOR_THE_CHAIN & {event.kind for event in pending}:
            chain = Chain(self._store, attempt.identity.parent)
            settled &= chain.send(remote.run, attempt, self._reported)
        status, when = attempt.state
        if status != remote.status:
            self._store.set_status(remote.run.info.run_id, status, when)
            remote.status = status
        if settled and not sent.awaited:
            self._note(remote, attempt)
        return sent

    def _net(self, run: Run, attempt: Attempt) -> NetModel | None:
        """Return the net that a finished attempt leaves, if it leaves one; the last report of it counts."""
        told = any(event.kind == "model" for event in attempt.events)
        return NetModel(self._store, run, attempt.events) if told and attempt.state[0] == "FINISHED" else None

    def _count(self, files: int | None, sent: Sent) -> None:
        """Count the files of a net; some that are gone come back when what was lost is put back."""
        sent.artifacts += files or 0
        sent.missing += files is None
        sent.awaited += files is None

    def _find(self, attempt: Attempt) -> _Remote:
        """Find the attempt's run, or create it in the place of those of earlier attempts."""
        store, identity = self._store, attempt.identity
        store.connection.open()
        found = store.runs(identity)
        run = next((run for run in found if run.data.tags.get(ATTEMPT) == attempt.id), None)
        if run is None:
            run = store.create(identity, started=attempt.started, tags={ATTEMPT: attempt.id})
            for old in filter(is_current, found):
                store.supersede(old, run, attempt.started)
        noted, name = read_cursor(self._journal), store.connection.name
        mine = noted if noted and (noted.store, noted.run) == (name, run.info.run_id) else None
        created = store.experiment(identity.experiment).creation_time or 0
        return _Remote(run, created, run.info.status, mine, set(run.data.params))

    def _note(self, remote: _Remote, attempt: Attempt) -> None:
        """Remember that the run has all of the journal."""
        run, name = remote.run.info, self._store.connection.name
        key, state = attempt.identity.key, attempt.state[0]
        cursor = Cursor(name, run.run_id, attempt.end, state, key, run.experiment_id, remote.created)
        if cursor != remote.noted:
            cursor.write(self._journal)
            remote.noted = cursor

    def _send_values(self, remote: _Remote, attempt: Attempt, pending: Sequence[Event], of: Mapping[str, Any]) -> Sent:
        """Send parameters, tags and metrics, which may be those of a model, except what the run has."""
        points = last_points(pending, "metrics")
        new = {key for key, _ in points} - remote.asked
        remote.points |= self._store.history(remote.run, new).keys()
        remote.asked |= new
        fresh = [(key, v, t, step) for (key, step), (v, t) in points.items() if (key, step) not in remote.points]
        busy = [point for point in fresh if point[0].startswith(SYSTEM)]
        metrics = [point for point in fresh if not point[0].startswith(SYSTEM)]
        params = {key: value for key, value in attempt.params.items() if key not in remote.params}
        self._store.log(remote.run.info.run_id, metrics=metrics, params=params, tags=last_tags(pending), **of)
        self._store.log(remote.run.info.run_id, metrics=busy)
        remote.points |= points.keys()
        remote.params |= params.keys()
        return Sent(updated=True, metrics=len(fresh), params=len(params))

    def _send_artifact(self, run: Run, attempt: Attempt, event: Event, sent: Sent) -> None:
        """Upload a file, if it is still there: Snakemake removes the outputs of a stage that failed, or was killed."""
        path = self._store.connection.results / event.fields["path"]
        there = path.exists()
        if there and self._store.upload(run, path, event.fields["folder"]):
            sent.artifacts += 1
            return
        sent.missing += 1
        sent.awaited += not there and attempt.state[0] == "FINISHED"

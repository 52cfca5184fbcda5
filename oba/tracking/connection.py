"""A connection to a tracking server or store: opened late, guarded, and limited in the time it may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from oba.addresses import redacted
from oba.errors import TrackingError
from oba.imports import importing
from oba.tracking.alive import Memory, check_alive
from oba.tracking.quiet import HURRIED, PATIENT, quiet
from oba.tracking.tables import set_up_sqlite
from oba.tracking.uri import is_database, is_fresh, scheme_of, sqlite_path

LOCK_SECONDS = 10.0
"""How long to wait for another process that sets up the store."""
_SHARE = 0.005
"""Part of its time that a long stage may spend on calls."""
_LONG = 1.0
"""Seconds; a failure that took longer would cost every job as much, and is told to the others."""


class Connection:
    """An MLflow client, made on first use. Whatever goes wrong is a :class:`TrackingError` of one line."""

    def __init__(
        self, uri: str, results_dir: Path, *, allowance: float | None = None, heeds_others: bool = False
    ) -> None:
        """Describe the connection.

        Args:
            uri: The tracking server or store.
            results_dir: The folder of all results.
            allowance: Limits the seconds of all calls, besides 0.5 % of the time since now.
            heeds_others: Whether to leave a server alone that did not answer another job lately.
        """
        self.uri = uri
        self.name = redacted(uri)
        self.results = Path(results_dir).resolve()
        self._memory, self._heeds_others = Memory(self.results, self.name), heeds_others
        # A file that is locked for a while does not hang.
        self._remembers = scheme_of(uri) != "sqlite"
        self._allowance = allowance
        self._waiting = PATIENT if allowance is None else HURRIED
        self._created, self._spent = time.monotonic(), 0.0
        self._client: Any = None
        self._lock = FileLock(self.results / ".mlflow.lock", timeout=LOCK_SECONDS)

    def open(self) -> None:
        """Make the client, unless it is there. A fresh database gets its tables here, by one process at a time."""
        if self._client is not None:
            return
        self._heed()
        with self._told_if_long():
            check_alive(self.uri)
        try:
            self._import()
        except Exception as error:
            raise TrackingError(f"mlflow cannot be imported ({error})") from error
        fresh = is_fresh(self.uri)
        with self.exclusive() if fresh else nullcontext():
            from mlflow import MlflowClient

            if fresh and scheme_of(self.uri) == "sqlite":
                self._guarded(lambda: set_up_sqlite(sqlite_path(self.uri)))
            self._client = self._guarded(lambda: MlflowClient(self.uri))
        if not self._heeds_others:
            self._memory.clear()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes of these results from creating stores and experiments or changing chains."""
        try:
            self.results.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout as error:
            raise TrackingError(f"{self.name}: another process holds {self._lock.lock_file}") from error
        except (OSError, NotImplementedError) as error:
            raise TrackingError(f"{self.name}: {self._lock.lock_file} cannot be locked ({error})") from error
        try:
            yield
        finally:
            self._lock.release()

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the client, which must be open and whose allowance must not be used up."""
        now = time.monotonic()
        self._heed()
        if self._allowance is not None and self._spent > self._allowance + _SHARE * (now - self._created):
            reason = f"is slow: {self._spent:.0f} s were spent on it"
            self._note(f"it {reason}")
            raise TrackingError(f"{self.name} {reason}")
        try:
            with self._told_if_long():
                return self._guarded(lambda: getattr(self._client, method)(*args, **kwargs))
        finally:
            self._spent += time.monotonic() - now

    def _heed(self) -> None:
        """Refuse a server that hung for another job lately."""
        if self._heeds_others and self._remembers:
            self._memory.check()

    @contextmanager
    def _told_if_long(self) -> Iterator[None]:
        """Tell the other jobs of a failure that took long."""
        started = time.monotonic()
        try:
            yield
        except TrackingError:
            if (seconds := time.monotonic() - started) > _LONG:
                self._note(f"no answer within {seconds:.0f} s")
            raise

    def _note(self, reason: str) -> None:
        if self._remembers:
            self._memory.note(reason)

    def _import(self) -> None:
        """Import what the client will need."""
        with quiet(self._waiting), importing():
            import mlflow.entities  # ruff: ignore[unused-import]

            if is_database(self.uri):
                import mlflow.store.tracking.sqlalchemy_store  # ruff: ignore[unused-import]

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """Make a call; MLflow raises its own errors, requests', SQLAlchemy's and the system's."""
        try:
            with quiet(self._waiting):
                return call()
        except Exception as error:
            line = " ".join(redacted(str(error), self.uri).split())[:300]
            raise TrackingError(f"{self.name}: {type(error).__name__}: {line}") from error

"""Which journals a store has whole, so that nobody need read them: told by their cursors, sizes and the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from oba.tracking.alive import check_alive
from oba.tracking.cursor import Cursor, read_cursor
from oba.tracking.store import KEY, Store
from oba.tracking.uri import scheme_of, sqlite_path

_EXPERIMENTS = "SELECT experiment_id, creation_time FROM experiments"
_RUNS = "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active'"


class Idle:
    """Sorts journals into those that need nothing and the rest."""

    def __init__(self, journals: Sequence[Path], store: Store) -> None:
        """Remember the journals and the store, which need not be open."""
        self._journals, self._store = journals, store

    def rest(self) -> list[Path]:
        """Return the journals of which the store lacks something, and those of unfinished runs.

        The store is opened unless it is a SQLite file, which is asked without MLflow.
        """
        cursors = {journal: cursor for journal in self._journals if (cursor := self._sent(journal))}
        connection = self._store.connection
        if scheme_of(connection.uri) == "sqlite":
            check_alive(connection.uri)
            there = self._in_database(cursors)
        else:
            connection.open()
            self._store.ping()
            there = self._on_server(cursors)
        return [journal for journal in self._journals if journal not in there]

    def _sent(self, journal: Path) -> Cursor | None:
        """Return the cursor of a journal that was sent whole to this store, to a run that has ended."""
        cursor = read_cursor(journal)
        if cursor is None or cursor.store != self._store.connection.name or cursor.state in {"", "RUNNING"}:
            return None
        return cursor if cursor.offset == journal.stat().st_size else None

    def _in_database(self, cursors: Mapping[Path, Cursor]) -> set[Path]:
        """Return those whose run and experiment a SQLite file has."""
        try:
            with closing(sqlite3.connect(sqlite_path(self._store.connection.uri))) as database:
                experiments = {(str(number), created) for number, created in database.execute(_EXPERIMENTS)}
                runs = {run for (run,) in database.execute(_RUNS)}
        except sqlite3.Error:
            return set()  # not set up, or by another MLflow: it is asked about every journal
        return {
            journal
            for journal, cursor in cursors.items()
            if cursor.run in runs and (cursor.experiment, cursor.created) in experiments
        }

    def _on_server(self, cursors: Mapping[Path, Cursor]) -> set[Path]:
        """Return those whose experiment a server has; close what the server created twice meanwhile."""
        numbers = {cursor.experiment for cursor in cursors.values()}
        experiments = self._store.experiments(numbers).items() if numbers else ()
        there = {j: c for j, c in cursors.items() if (c.experiment, c.created) in experiments}
        known = {cursor.run for cursor in there.values()}
        doubted = {
            (number, run.data.tags[KEY])
            for number in {cursor.experiment for cursor in there.values()}
            for run in self._store.running(number)
            if run.info.run_id not in known and "'" not in run.data.tags.get(KEY, "'")
        }
        for place in doubted:
            self._store.runs_of(*place)
        return {journal for journal, cursor in there.items() if (cursor.experiment, cursor.key) not in doubted}

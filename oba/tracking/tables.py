"""The tables of a new SQLite store: all of them, or none.

MLflow sets up a database in dozens of steps, and SQLite keeps each of them. A process that is killed meanwhile leaves a
database that MLflow can neither use nor complete, so one is made under another name and renamed.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from oba.tracking.uri import sqlite_uri


def set_up_sqlite(path: Path) -> None:
    """Make the tables of a store where there are none, or only a part.

    A file that holds runs, or is no store of MLflow's, is left as it is.

    Args:
        path: The file; the caller keeps other processes from doing the same.
    """
    from mlflow import MlflowClient

    if not _may_go(path):
        return
    part = path.with_name(f".{path.name}.new")
    _remove(part)
    MlflowClient(sqlite_uri(part)).search_experiments(max_results=1)
    # What SQLite would roll back in the old file must not be rolled back in the new one.
    _remove(path)
    part.replace(path)


def _may_go(path: Path) -> bool:
    """Tell whether a file holds nothing but tables that an interrupted MLflow left."""
    if not path.exists() or path.stat().st_size == 0:
        return True
    try:
        with closing(sqlite3.connect(path)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if tables and "experiments" not in tables:
                return False
            held = [connection.execute(f"SELECT 1 FROM {name}").fetchone() for name in tables & {"experiments", "runs"}]
            return not any(held)
    except sqlite3.Error:
        return False


def _remove(path: Path) -> None:
    """Delete a database, and the files that SQLite keeps beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

"""A new SQLite store has all of its tables, whenever the process that makes them is killed."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from oba.tracking.connection import Connection
from oba.tracking.tables import set_up_sqlite

ROOT = Path(__file__).parents[2]
# Dies at its thirtieth table, of which MLflow's migrations make more than a hundred, some for a moment only.
DIES = """
import os, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from oba.tracking.connection import Connection

made = []

@event.listens_for(Engine, "after_cursor_execute")
def die(connection, cursor, statement, *rest):
    if statement.strip().startswith("CREATE TABLE"):
        made.append(statement)
    if len(made) == 30:
        os._exit(9)

Connection(sys.argv[1], Path(sys.argv[2])).open()
"""


def test_a_store_whose_setting_up_was_killed_is_set_up_again(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    died = subprocess.run([sys.executable, "-c", DIES, uri, str(tmp_path)], env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert died.returncode == 9
    connection = Connection(uri, tmp_path)
    connection.open()
    assert [experiment.name for experiment in connection.call("search_experiments")] == ["Default"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mlflow.lock", "mlflow.db"]


def test_a_store_that_was_left_with_some_tables_is_made_again(tmp_path):
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as half:
        half.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        half.execute("CREATE TABLE runs (run_uuid TEXT)")
    connection = Connection(f"sqlite:///{path}", tmp_path)
    connection.open()
    assert [experiment.name for experiment in connection.call("search_experiments")] == ["Default"]


@pytest.mark.parametrize("table", ["experiments", "runs", "notes"])
def test_a_file_that_holds_something_is_left_alone(tmp_path, table):
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as used:
        used.executescript("CREATE TABLE experiments (a TEXT); CREATE TABLE runs (a TEXT)" if table != "notes" else "")
        used.executescript(f"CREATE TABLE IF NOT EXISTS {table} (a TEXT); INSERT INTO {table} VALUES ('x')")
    before = path.read_bytes()
    set_up_sqlite(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_alone(tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_text("my notes " * 100)
    set_up_sqlite(path)
    assert path.read_text() == "my notes " * 100

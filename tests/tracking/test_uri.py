"""Addresses: which one counts, which are refused, whether anybody answers."""

from __future__ import annotations

import socket
import sqlite3
import threading

import pytest

from oba.errors import ConfigError, TrackingError
from oba.tracking import uri as module
from oba.tracking.uri import check_alive, is_database, is_fresh, redacted, resolve_uri, scheme_of


@pytest.fixture
def port():
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_study_counts_before_environment_before_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_uri(None, tmp_path / "results") == f"sqlite:///{tmp_path}/results/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    assert resolve_uri(None, tmp_path) == "http://elsewhere:5000"
    assert resolve_uri("https://here/mlflow", tmp_path) == "https://here/mlflow"
    assert resolve_uri("sqlite:///runs/my.db", tmp_path) == f"sqlite:///{tmp_path}/runs/my.db"
    assert resolve_uri("postgresql+psycopg2://u@h/db", tmp_path) == "postgresql+psycopg2://u@h/db"


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "ftp://host", "localhost:5000"])
def test_file_stores_and_strangers_are_refused(uri, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"^tracking.uri: .* is not a tracking server or database; allowed: http"):
        resolve_uri(uri, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError, match=r"^MLFLOW_TRACKING_URI: "):
        resolve_uri(None, tmp_path)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:relative.db"])
def test_databases_without_a_file_are_refused(uri, tmp_path):
    with pytest.raises(ConfigError, match=r"names no file; allowed: sqlite:///path/mlflow\.db"):
        resolve_uri(uri, tmp_path)


def test_kinds_of_addresses():
    assert scheme_of("postgresql+psycopg2://u@h/db") == "postgresql"
    assert [is_database(uri) for uri in ("sqlite:////x", "mysql://h/d", "http://h", "databricks")] == [
        True,
        True,
        False,
        False,
    ]


def test_only_databases_that_are_not_set_up_are_fresh(setup, tmp_path):
    assert not is_fresh(f"sqlite:///{setup.root}/results/mlflow.db")
    assert is_fresh(f"sqlite:///{tmp_path}/mlflow.db")
    assert not is_fresh("http://host")
    assert is_fresh("postgresql://u@h/db")


def test_passwords_are_not_shown():
    uri = "http://me:secret@host:5000/x"
    assert redacted(uri) == "http://host:5000/x"
    assert redacted(f"API request to {uri}/api failed", uri) == "API request to http://host:5000/x/api failed"
    assert redacted("http://host/a@b") == "http://host/a@b"


def test_listening_port_is_alive_and_dead_port_is_refused(port):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        check_alive(f"http://127.0.0.1:{listener.getsockname()[1]}")
    with pytest.raises(TrackingError, match=rf"^http://127.0.0.1:{port} cannot be reached \(.*refused"):
        check_alive(f"http://me:secret@127.0.0.1:{port}")


def test_name_look_up_that_hangs_is_not_waited_for(monkeypatch):
    asked_for_long_enough = threading.Event()

    def hang(*args, **kwargs):
        asked_for_long_enough.wait(20)
        raise TimeoutError("looked up in vain")

    monkeypatch.setattr(socket, "create_connection", hang)
    with pytest.raises(TrackingError, match=r"no answer within 0.05 s"):
        check_alive("http://far.away", seconds=0.05)
    asked_for_long_enough.set()  # the thread ends with this test, not in the middle of another


def test_default_ports(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "_knock", lambda host, port, seconds: asked.append((host, port)) or "")
    for uri in ("http://a", "https://b", "postgresql+psycopg2://u@c/db", "mysql://d/db", "databricks"):
        check_alive(uri)
    assert asked == [("a", 80), ("b", 443), ("c", 5432), ("d", 3306)]


def test_host_behind_a_proxy_is_not_asked_itself(port, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setattr(module, "_knock", lambda *args: pytest.fail("asked"))
    check_alive(f"http://inner.example:{port}")


def test_sqlite_file_is_made_and_a_broken_one_refused(tmp_path):
    check_alive(f"sqlite:///{tmp_path}/new/mlflow.db")
    assert (tmp_path / "new" / "mlflow.db").exists()
    (tmp_path / "broken.db").write_text("this is no database" * 100)
    with pytest.raises(TrackingError, match=r"cannot be reached \(file is not a database\)"):
        check_alive(f"sqlite:///{tmp_path}/broken.db")
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match="cannot be reached"):
        check_alive(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_sqlite_file_that_stays_locked_is_refused(tmp_path):
    path = tmp_path / "mlflow.db"
    holder = sqlite3.connect(path)
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TrackingError, match=r"cannot be reached \(database is locked\)"):
        check_alive(f"sqlite:///{path}", seconds=0.05)
    holder.close()

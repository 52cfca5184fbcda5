"""Addresses: which one counts, and which are refused."""

from __future__ import annotations

import pytest

from oba.errors import ConfigError
from oba.tracking.uri import is_database, is_fresh, resolve_uri, scheme_of


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


@pytest.mark.parametrize(
    "uri",
    [
        "http://host:99999",
        "http://host:0",
        "http://host:abc",
        "http://me:s3#cret@host:5000",
        "http://me:s3/cret@host:5000",
        "http://me:s3?cret@host",
        "http://me:s3@cret@host",
        "http://host/s3cret@b",
        "http://",
        "http:host",
        "http://host:5000 ",
        "postgresql://me:s3/cret@host/db",
    ],
)
def test_malformed_addresses_are_refused_without_showing_them(uri, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(
        ConfigError, match=r"^MLFLOW_TRACKING_URI: the \w+ address is malformed .*; allowed: "
    ) as caught:
        resolve_uri(None, tmp_path)
    assert "s3" not in str(caught.value)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "http://[::1]:5000",
        "https://me:p%40ss@host/mlflow/",
        "postgresql:///db?host=/run/postgresql",
        "databricks://profile:prefix",
    ],
)
def test_addresses_of_all_shapes_are_kept(uri, tmp_path):
    assert resolve_uri(uri, tmp_path) == uri


def test_question_mark_in_a_path_does_not_move_the_database(tmp_path, monkeypatch):
    from oba.tracking.connection import Connection
    from oba.tracking.store import Store

    results = tmp_path / "what?now #1 100%" / "results"
    uri = resolve_uri(None, results)
    connection = Connection(uri, results)
    connection.open()
    assert Store(connection).experiment("exp").name == "exp"
    assert {path.name for path in results.iterdir()} == {"mlflow.db", ".mlflow.lock"}
    assert {path.name for path in tmp_path.iterdir()} == {"what?now #1 100%"}
    assert not is_fresh(uri)
    assert resolve_uri(uri, tmp_path) == uri
    monkeypatch.chdir(results)
    assert resolve_uri("sqlite:///mlflow.db", tmp_path) == uri


def test_options_of_a_database_file_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"has options after the file; allowed: sqlite:///path/mlflow\.db"):
        resolve_uri("sqlite:///runs/my.db?timeout=5", tmp_path)

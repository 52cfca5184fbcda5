"""Addresses of tracking servers and stores: which one is used, whether it answers, how it may be shown."""

from __future__ import annotations

import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from oba.errors import ConfigError, TrackingError

_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
_DATABASES = {"sqlite", "postgresql", "mysql", "mssql"}
_SQLITE = "sqlite:///"


def resolve_uri(config_uri: str | None, results_dir: Path) -> str:
    """Return the tracking server or store to use.

    Args:
        config_uri: The study's ``tracking.uri``.
        results_dir: The folder of all results.

    Returns:
        The study's address, else the environment's ``MLFLOW_TRACKING_URI``, else SQLite under the results;
        paths are absolute.

    Raises:
        ConfigError: If MLflow 3 cannot keep runs there.
    """
    where = "tracking.uri" if config_uri else "MLFLOW_TRACKING_URI"
    uri = config_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{Path(results_dir).resolve()}/mlflow.db"
    if scheme_of(uri) not in {*_PORTS, "sqlite", "databricks"}:
        raise ConfigError(
            f"{where}: {redacted(uri)!r} is not a tracking server or database; allowed: http(s)://host:port, "
            "sqlite:///path/mlflow.db, postgresql://user@host/name (and mysql, mssql, databricks)"
        )
    if scheme_of(uri) == "sqlite":
        if not uri.removeprefix(_SQLITE) or not uri.startswith(_SQLITE) or ":memory:" in uri:
            raise ConfigError(f"{where}: {uri!r} names no file; allowed: sqlite:///path/mlflow.db")
        return f"{_SQLITE}{Path(uri.removeprefix(_SQLITE)).resolve()}"
    return uri


def scheme_of(uri: str) -> str:
    """Return an address's scheme without its driver: ``postgresql`` for ``postgresql+psycopg2://…``."""
    return uri.split(":", 1)[0].split("+", 1)[0].lower()


def is_database(uri: str) -> bool:
    """Return whether an address is a database that clients open themselves, not a server."""
    return scheme_of(uri) in _DATABASES


def is_fresh(uri: str) -> bool:
    """Return whether MLflow may still have to set up a database: whether SQLite lacks the experiment made last."""
    if scheme_of(uri) != "sqlite":  # asking other databases needs their drivers
        return is_database(uri)
    try:
        with closing(sqlite3.connect(uri.removeprefix(_SQLITE))) as connection:
            return connection.execute("SELECT count(*) FROM experiments").fetchone()[0] == 0
    except sqlite3.Error:
        return True


def redacted(text: str, uri: str = "") -> str:
    """Return an address, or a text that may contain the address ``uri``, without ``user:password@``."""
    login, at, _ = urlsplit(uri or text).netloc.rpartition("@")
    return text.replace(login + at, "") if at else text


def check_alive(uri: str, seconds: float = 3.0) -> None:
    """Refuse an address that does not answer within some seconds, before mlflow is imported or retries."""
    scheme, parts = scheme_of(uri), urlsplit(uri)
    reason = ""
    if scheme == "sqlite":
        reason = _open_sqlite(Path(uri.removeprefix(_SQLITE)), seconds)
    elif scheme in _PORTS and parts.hostname and not _has_proxy(scheme, parts.hostname):
        reason = _knock(parts.hostname, parts.port or _PORTS[scheme], seconds)
    if reason:
        raise TrackingError(f"{redacted(uri)} cannot be reached ({reason})")


def _open_sqlite(path: Path, seconds: float) -> str:
    """Return why a SQLite file cannot be used, or nothing; a missing file and its folder are made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=seconds)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except (OSError, sqlite3.Error) as error:
        return str(error)
    return ""


def _has_proxy(scheme: str, host: str) -> bool:
    """Return whether a host is reached through a proxy, so that it need not be reachable itself."""
    return scheme in getproxies() and not proxy_bypass(host)


def _knock(host: str, port: int, seconds: float) -> str:
    """Return why a port cannot be connected to, or nothing; in a thread, since looking up a name knows no timeout."""
    outcome: list[str] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
            outcome.append("")
        except OSError as error:
            outcome.append(str(error) or type(error).__name__)

    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else f"no answer within {seconds:g} s"

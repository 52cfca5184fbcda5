"""Addresses of tracking servers and stores: which one is used, and what a database's address says."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from oba.addresses import is_well_formed, redacted
from oba.errors import ConfigError

PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
_DATABASES = {"sqlite", "postgresql", "mysql", "mssql"}
_SQLITE, _QUOTED, _QUOTED_END = "sqlite:///", "sqlite:///file:", "?uri=true"


def resolve_uri(config_uri: str | None, results_dir: Path) -> str:
    """Return the tracking server or store to use.

    Args:
        config_uri: The study's ``tracking.uri``.
        results_dir: The folder of all results.

    Returns:
        The study's address, else the environment's ``MLFLOW_TRACKING_URI``, else SQLite under the results;
        paths are absolute.

    Raises:
        ConfigError: If the address is malformed, or MLflow 3 cannot keep runs there.
    """
    where = "tracking.uri" if config_uri else "MLFLOW_TRACKING_URI"
    uri = config_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return sqlite_uri(Path(results_dir) / "mlflow.db")
    scheme = scheme_of(uri)
    if scheme not in {*PORTS, "sqlite", "databricks"}:
        raise ConfigError(
            f"{where}: {redacted(uri)!r} is not a tracking server or database; allowed: http(s)://host:port, "
            "sqlite:///path/mlflow.db, postgresql://user@host/name (and mysql, mssql, databricks)"
        )
    if scheme == "sqlite":
        return sqlite_uri(_named_file(uri, where))
    if scheme != "databricks":
        _check_shape(uri, where)
    return uri


def scheme_of(uri: str) -> str:
    """Return an address's scheme without its driver: ``postgresql`` for ``postgresql+psycopg2://…``."""
    return uri.split(":", 1)[0].split("+", 1)[0].lower()


def is_database(uri: str) -> bool:
    """Return whether an address is a database that clients open themselves, not a server."""
    return scheme_of(uri) in _DATABASES


def sqlite_path(uri: str) -> Path:
    """Return the file of a SQLite store, whose address :func:`resolve_uri` made."""
    if uri.startswith(_QUOTED):
        return Path(unquote(uri.removeprefix(_QUOTED).removesuffix(_QUOTED_END)))
    return Path(uri.removeprefix(_SQLITE))


def is_fresh(uri: str) -> bool:
    """Return whether MLflow may still have to set up a database: whether SQLite lacks the experiment made last."""
    if scheme_of(uri) != "sqlite":  # asking other databases needs their drivers
        return is_database(uri)
    try:
        with closing(sqlite3.connect(sqlite_path(uri))) as connection:
            return connection.execute("SELECT count(*) FROM experiments").fetchone()[0] == 0
    except sqlite3.Error:
        return True


def sqlite_uri(path: Path) -> str:
    """Return the address of a SQLite file; a question mark in a path would begin the address's options."""
    path = path.resolve()
    return f"{_QUOTED}{quote(str(path))}{_QUOTED_END}" if "?" in str(path) else f"{_SQLITE}{path}"


def _named_file(uri: str, where: str) -> Path:
    """Return the file that a SQLite address names, or refuse the address."""
    path = sqlite_path(uri)
    if not uri.startswith(_SQLITE) or path == Path() or ":memory:" in uri:
        raise ConfigError(f"{where}: {uri!r} names no file; allowed: sqlite:///path/mlflow.db")
    if "?" in str(path) and not uri.startswith(_QUOTED):
        raise ConfigError(f"{where}: {uri!r} has options after the file; allowed: sqlite:///path/mlflow.db")
    return path


def _check_shape(uri: str, where: str) -> None:
    """Refuse addresses that could be read in several ways, or by nobody."""
    if not is_well_formed(uri) or (not is_database(uri) and not urlsplit(uri).hostname):
        raise ConfigError(
            f"{where}: the {scheme_of(uri)} address is malformed (not shown, it may hold a password); allowed: "
            "scheme://user:password@host:port/path with a port from 1 to 65535, and in a password %40, %2F, %3F, %23 "
            "and %3A for @, /, ?, # and :"
        )

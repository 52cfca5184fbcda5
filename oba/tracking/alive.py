"""Whether a tracking server or store answers, and what jobs remember of one that did not."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sqlite3
import ssl
import struct
import time
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from oba.addresses import redacted
from oba.errors import FileError, TrackingError
from oba.files import write_json
from oba.tracking.uri import PORTS, scheme_of, sqlite_path

AWAY_SECONDS = 1800.0
"""How long jobs leave a server alone that did not answer one of them."""
_POSTGRES_QUESTION = struct.pack("!ii", 8, 80877103)
"""Whether the server does TLS, with which a connection may begin (PostgreSQL's manual, section "Message Formats")."""


class Memory:
    """What the jobs of all results tell each other about a server that hangs: when, and why it was given up."""

    def __init__(self, results: Path, store: str) -> None:
        """Remember one store, named without its login, in a file of the results."""
        self._path, self._store = results / ".mlflow.away", store

    def check(self) -> None:
        """Refuse a store that did not answer lately."""
        try:
            told = json.loads(self._path.read_text(encoding="utf-8"))
            store, since, reason = told["store"], float(told["since"]), str(told["reason"])
        except (OSError, ValueError, TypeError, KeyError):
            return  # nobody complained, or the note is damaged: then this job finds out itself
        if store == self._store and abs(time.time() - since) < AWAY_SECONDS:
            clock = time.strftime("%H:%M", time.localtime(since))
            raise TrackingError(f"{self._store} was given up at {clock} ({reason}) and is left alone for a while")

    def note(self, reason: str) -> None:
        """Tell the others."""
        # Where nothing can be written, each job finds out itself.
        with suppress(OSError, FileError):
            write_json(self._path, {"store": self._store, "since": time.time(), "reason": reason})

    def clear(self) -> None:
        """Tell the others that the store answers."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def patience() -> float:
    """Return for how many seconds a store may be silent: MLflow's own limit, where the user has set it."""
    try:
        return float(os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", "5"))
    except ValueError:
        return 5.0


def check_alive(uri: str, seconds: float | None = None) -> None:
    """Refuse an address that does not answer within some seconds, before mlflow is imported or retries."""
    scheme, parts = scheme_of(uri), urlsplit(uri)
    seconds = patience() if seconds is None else seconds
    reason = ""
    if scheme == "sqlite":
        reason = _open_sqlite(sqlite_path(uri), seconds)
    elif scheme in PORTS and parts.hostname and not _has_proxy(scheme, parts.hostname):
        reason = _knock(scheme, parts, seconds)
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


def _knock(scheme: str, parts: SplitResult, seconds: float) -> str:
    """Return why nobody answers, or nothing; in a thread, since looking up a name knows no timeout."""
    outcome: list[str] = []

    def ask() -> None:
        try:
            _ask(scheme, parts, seconds)
            outcome.append("")
        except (OSError, http.client.HTTPException) as error:
            outcome.append(str(error) or type(error).__name__)

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else f"no answer within {seconds:g} s"


def _ask(scheme: str, parts: SplitResult, seconds: float) -> None:
    """Ask a server or PostgreSQL something to which any answer will do; connect to the port of another database."""
    host, port = str(parts.hostname), parts.port or PORTS[scheme]
    if not scheme.startswith("http"):
        with socket.create_connection((host, port), timeout=seconds) as connection:
            if scheme == "postgresql":
                connection.sendall(_POSTGRES_QUESTION)
                if not connection.recv(1):
                    raise ConnectionError("closed without an answer")
        return
    server = http.client.HTTPConnection(host, port, timeout=seconds)
    if scheme == "https":
        # Nothing is told or believed here; MLflow checks the certificate as the user wants it.
        server = http.client.HTTPSConnection(host, port, timeout=seconds, context=ssl._create_unverified_context())
    with closing(server):
        server.request("GET", f"{parts.path.rstrip('/')}/health")
        server.getresponse()

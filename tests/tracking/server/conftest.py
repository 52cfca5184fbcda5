"""Real tracking servers, on SQLite and on PostgreSQL, that tests may kill, stop and start again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

START_SECONDS = 600
PASSWORD = "s3cret%21"
CREATE = {"/api/2.0/mlflow/runs/create", "/api/2.0/mlflow/logged-models"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(process: subprocess.Popen, log: Path, answers: Callable[[], bool]) -> None:
    """Wait until a process answers; if it ends or never does, show its log."""
    deadline = time.monotonic() + START_SECONDS
    while not answers():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


class Postgres:
    """A PostgreSQL server in a folder of its own; it refuses to run as root."""

    def __init__(self, programs: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="oba-postgres-"))
        self.port = free_port()
        owner = {"user": self._unprivileged()} if os.geteuid() == 0 else {}
        if owner:
            shutil.chown(self.folder, owner["user"])
        options = {"cwd": self.folder, **owner}
        data, log = self.folder / "data", self.folder / "log"
        init = [programs / "initdb", "-D", data, "-A", "trust", "-U", "mlflow", "--no-sync"]
        subprocess.run(init, check=True, capture_output=True, **options)
        start = [programs / "postgres", "-D", data, "-p", str(self.port), "-h", "127.0.0.1", "-k", self.folder]
        with log.open("wb") as stream:
            self.process = subprocess.Popen([*start, "-F"], stdout=stream, stderr=stream, **options)
        wait_for(self.process, log, self._answers)

    @staticmethod
    def _unprivileged() -> str:
        return next(entry.pw_name for entry in pwd.getpwall() if entry.pw_name in {"postgres", "nobody"})

    def _answers(self) -> bool:
        try:
            self.new_database()
        except Exception:
            return False
        return True

    def new_database(self) -> str:
        """Return the address of a database that is new and empty."""
        import psycopg2

        name = f"mlflow{uuid.uuid4().hex}"
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user="mlflow", dbname="postgres")
        try:
            connection.autocommit = True
            connection.cursor().execute(f"CREATE DATABASE {name}")
        finally:
            connection.close()
        return f"postgresql://mlflow@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()
        shutil.rmtree(self.folder)


@pytest.fixture(scope="session")
def postgres():
    """PostgreSQL, which .ci/run installs."""
    found = shutil.which("postgres") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/postgres")), None)
    if found is None and not os.environ.get("OBA_REQUIRE_ALL"):
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install --no-install-recommends postgresql)")
    assert found, "PostgreSQL is not installed, and .ci/packages asks for it"
    server = Postgres(Path(found).parent)
    yield server
    server.stop()


class Server:
    """``mlflow server`` with a store and artifacts of its own, on a port that stays the same."""

    def __init__(self, folder: Path, store: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.store = folder, store
        self.uri = f"http://127.0.0.1:{free_port()}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", self.uri.rsplit(":")[-1]]
        command += ["--workers", "1", "--backend-store-uri", self.store]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(self.folder), "TMPDIR": str(self.folder)}
        log = self.folder / "log"
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=os.environ | quiet, stdout=stream, stderr=stream, start_new_session=True
            )
        wait_for(self.process, log, self.answers)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as response:
                return response.status == 200
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and its workers."""
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request, tmp_path, new_store):
    folder = tmp_path / "server"
    sqlite = request.param == "sqlite"
    store = new_store(folder) if sqlite else request.getfixturevalue("postgres").new_database()
    server = Server(folder, store)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def site(server, shared, lab, tmp_path):
    """A results folder that reports to the server, with a login that this server does not ask for."""
    results = tmp_path / "results"
    site = type(lab)(results, server.uri.replace("//", f"//me:{PASSWORD}@"), lab.experiment)
    site.folder.mkdir(parents=True)
    return site


class Late(ThreadingHTTPServer):
    """Passes requests on to a server, and withholds the first answer about what it creates until it was asked again."""

    daemon_threads = True

    def __init__(self, uri: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind, self.uri = uri, f"http://127.0.0.1:{self.server_address[1]}"
        self.created: dict[bytes, threading.Event] = {}


class Handler(BaseHTTPRequestHandler):
    server: Late

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        late = None
        if self.path in CREATE:
            if body in self.server.created:
                again = self.server.created[body]
            else:
                again, late = None, self.server.created.setdefault(body, threading.Event())
        headers = {name: self.headers[name] for name in ("Content-Type", "Accept") if name in self.headers}
        request = urllib.request.Request(self.server.behind + self.path, body or None, headers, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                status, content = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        if late is not None:
            late.wait(300)
        elif self.path in CREATE and again is not None:
            again.set()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            assert late is not None, "only whom nobody waits for any more may be gone"

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer

    def log_message(self, format, *args):
        pass


@pytest.fixture
def late(server):
    late = Late(server.uri)
    thread = threading.Thread(target=late.serve_forever)
    thread.start()
    yield late
    late.shutdown()
    thread.join()
    late.server_close()


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """Wait for a live server on a busy machine."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")

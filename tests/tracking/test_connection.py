"""Connections: refusals in one line, few attempts, a limit of time."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from filelock import FileLock

from oba.errors import TrackingError
from oba.tracking import connection as module
from oba.tracking.alive import Memory
from oba.tracking.connection import Connection


@pytest.fixture
def failing_server():
    """A server that answers every request with an error, and the requests it got."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            if self.path != "/health":
                asked.append(f"{self.command} {self.path.split('?')[0]}")
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = answer

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_failing_server_is_tried_twice_and_no_more(failing_server, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    uri, asked = failing_server
    connection = Connection(uri, tmp_path, allowance=10)
    connection.open()
    with pytest.raises(TrackingError, match=rf"^{uri}: MlflowException: .*503"):
        connection.call("get_experiment_by_name", "x")
    assert asked == ["GET /api/2.0/mlflow/experiments/get-by-name"] * 2


def test_tries_that_the_user_sets_count(failing_server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri, asked = failing_server
    connection = Connection(uri, tmp_path)
    connection.open()
    with pytest.raises(TrackingError, match="503"):
        connection.call("get_experiment_by_name", "x")
    assert len(asked) == 1


def test_mlflow_is_not_imported_for_a_dead_server(tmp_path):
    code = (
        "import sys\n"
        "from oba.errors import TrackingError\n"
        "from oba.tracking.connection import Connection\n"
        "try:\n"
        "    Connection('http://127.0.0.1:1', sys.argv[1]).open()\n"
        "except TrackingError as error: print(error, 'mlflow' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "cannot be reached" in done.stdout
    assert done.stdout.endswith("False\n")


def fake(connection, clock, seconds):
    """Give a connection a client whose calls take some seconds of a clock."""

    def call(value):
        clock.now += seconds
        return value

    connection._client = SimpleNamespace(call=call)


def test_slow_server_is_given_up_when_the_allowance_is_used_up(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    connection = Connection("http://slow", tmp_path, allowance=10)
    fake(connection, clock, 4.0)
    assert [connection.call("call", n) for n in range(3)] == [0, 1, 2]
    with pytest.raises(TrackingError, match=r"^http://slow is slow: 12 s were spent on it$"):
        connection.call("call", 3)
    clock.now += 500
    assert connection.call("call", 4) == 4


def noted(folder):
    """Return what jobs tell each other of a server that hung."""
    path = folder / ".mlflow.away"
    return json.loads(path.read_text())["reason"] if path.exists() else None


@pytest.mark.parametrize(("uri", "reason"), [("http://slow", "no answer within 4 s"), ("sqlite:////slow.db", None)])
def test_failure_that_took_long_is_told_to_the_other_jobs(tmp_path, monkeypatch, uri, reason):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)

    def fail(seconds):
        clock.now += seconds
        raise OSError("no")

    connections = [Connection(uri, tmp_path, allowance=10, heeds_others=True) for _ in range(2)]
    for connection in connections:
        connection._client = SimpleNamespace(fail=fail, ask=lambda: "answer")
    with pytest.raises(TrackingError, match="OSError: no"):
        connections[0].call("fail", 0.5)
    assert (noted(tmp_path), connections[1].call("ask")) == (None, "answer")
    with pytest.raises(TrackingError, match="OSError: no"):
        connections[0].call("fail", 4)
    assert noted(tmp_path) == reason
    if reason:
        for connection in connections:
            with pytest.raises(TrackingError, match=r"^http://slow was given up at .* \(no answer within 4 s\)"):
                connection.call("ask")


def test_slow_server_is_told_to_the_other_jobs(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    connection = Connection("http://slow", tmp_path, allowance=10)
    fake(connection, clock, 11.0)
    connection.call("call", 1)
    with pytest.raises(TrackingError, match="is slow"):
        connection.call("call", 2)
    assert noted(tmp_path) == "it is slow: 11 s were spent on it"


def test_job_leaves_a_server_alone_that_hung_and_people_do_not(failing_server, tmp_path):
    uri, _ = failing_server
    Memory(tmp_path, uri).note("it hung")
    with pytest.raises(TrackingError, match=r"was given up at .* \(it hung\)"):
        Connection(uri, tmp_path, allowance=10, heeds_others=True).open()
    assert noted(tmp_path) == "it hung"
    Connection(uri, tmp_path).open()
    assert noted(tmp_path) is None
    Connection(uri, tmp_path, allowance=10, heeds_others=True).open()


def test_people_wait_for_slow_servers(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    connection = Connection("http://slow", tmp_path)
    fake(connection, clock, 40.0)
    assert [connection.call("call", n) for n in range(3)] == [0, 1, 2]


def test_errors_are_one_line_without_passwords(tmp_path):
    def fail():
        raise ValueError("no\n  http://me:secret@host/api " + "x" * 1000)

    connection = Connection("http://me:secret@host", tmp_path)
    connection._client = SimpleNamespace(fail=fail)
    with pytest.raises(TrackingError) as caught:
        connection.call("fail")
    assert str(caught.value).startswith("http://host: ValueError: no http://host/api xxx")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'mlflow'"), AttributeError("half installed")])
def test_mlflow_that_cannot_be_imported_is_reported(tmp_path, monkeypatch, error):
    real = builtins.__import__

    def without_mlflow(name, *args, **kwargs):
        if name.startswith("mlflow"):
            raise error
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_mlflow)
    connection = Connection(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    with pytest.raises(TrackingError, match=rf"mlflow cannot be imported \({error}\)"):
        connection.open()


def test_another_process_that_does_not_get_done_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.05)
    connection = Connection(f"sqlite:///{tmp_path}/fresh.db", tmp_path)
    monkeypatch.setattr(connection, "_import", lambda: None)
    with (
        FileLock(tmp_path / ".mlflow.lock"),
        pytest.raises(TrackingError, match=r"another process holds .*\.mlflow\.lock"),
    ):
        connection.open()


def test_folder_that_cannot_be_locked_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    connection = Connection("http://host", tmp_path / "file" / "results")
    with (
        pytest.raises(TrackingError, match=r"\.mlflow\.lock cannot be locked \(.*Not a directory"),
        connection.exclusive(),
    ):
        pass


def test_store_that_is_set_up_is_opened_without_the_lock(lab):
    connection = Connection(lab.uri, lab.results)
    with FileLock(lab.results / ".mlflow.lock"):
        connection.open()
        client = connection._client
        connection.open()
    assert connection._client is client
    assert client.tracking_uri == lab.uri

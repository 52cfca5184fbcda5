"""Whether anybody answers, and what jobs tell each other of a server that does not."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
import time

import pytest

from oba.errors import TrackingError
from oba.tracking import alive as module
from oba.tracking.alive import AWAY_SECONDS, Memory, check_alive, patience

END = b"\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def port():
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def answering():
    """Start servers that answer the first thing that they are asked, and remember it."""
    threads, asked = [], []

    def serve(listener, answer):
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(1000))
            connection.sendall(answer)

    def answering(listener, answer):
        threads.append(threading.Thread(target=serve, args=(listener, answer)))
        threads[-1].start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield lambda answer: answering(listener, answer), asked
        for thread in threads:
            thread.join()


def test_dead_port_is_refused(port):
    with pytest.raises(TrackingError, match=rf"^http://127.0.0.1:{port} cannot be reached \(.*refused"):
        check_alive(f"http://me:secret@127.0.0.1:{port}")


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_server_that_accepts_and_never_answers_is_refused(scheme):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"{scheme}://me:secret@127.0.0.1:{listener.getsockname()[1]}/mlflow"
        with pytest.raises(TrackingError, match=r"^\w+://127[^@]*/mlflow cannot be reached \((no answer|timed out)"):
            check_alive(uri, seconds=0.2)


def test_database_that_only_listens_is_alive():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        check_alive(f"mysql://127.0.0.1:{listener.getsockname()[1]}/db", seconds=60)


def test_any_answer_of_a_server_is_a_sign_of_life(answering):
    answer, asked = answering
    check_alive(f"http://{answer(b'HTTP/1.1 401 Unauthorized' + END)}/mlflow/", seconds=60)
    assert asked[0].startswith(b"GET /mlflow/health HTTP/1.1\r\n")


@pytest.mark.parametrize("reply", [b"N", b"S"])
def test_postgresql_is_asked_for_tls(answering, reply):
    answer, asked = answering
    check_alive(f"postgresql+psycopg2://me@{answer(reply)}/db", seconds=60)
    assert asked == [bytes([0, 0, 0, 8, 4, 210, 22, 47])]


@pytest.mark.parametrize(
    ("scheme", "reply", "reason"),
    [("http", b"220 mail.example ESMTP" + END, "220 mail"), ("postgresql", b"", "closed without an answer")],
)
def test_what_speaks_another_language_is_refused(answering, scheme, reply, reason):
    answer, _ = answering
    with pytest.raises(TrackingError, match=rf"cannot be reached \({reason}"):
        check_alive(f"{scheme}://{answer(reply)}", seconds=60)


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

    def connect(address, *args, **kwargs):
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    for uri in ("http://a", "https://b", "postgresql+psycopg2://u@c/db", "mysql://d/db"):
        with pytest.raises(TrackingError, match="ConnectionRefusedError"):
            check_alive(uri, seconds=60)
    check_alive("databricks")
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


def test_patience_is_what_mlflow_is_told_to_have(monkeypatch):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    assert patience() == 5
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    assert patience() == 60
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon")
    assert patience() == 5


def test_jobs_tell_each_other_for_a_while(tmp_path, monkeypatch):
    Memory(tmp_path, "http://host").note("it hung")
    with pytest.raises(TrackingError, match=r"^http://host was given up at \d\d:\d\d \(it hung\) and is left alone"):
        Memory(tmp_path, "http://host").check()
    Memory(tmp_path, "http://other").check()
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + AWAY_SECONDS + 1)
    Memory(tmp_path, "http://host").check()


def test_good_news_end_it(tmp_path):
    memory = Memory(tmp_path, "http://host")
    memory.note("it hung")
    memory.clear()
    memory.check()
    memory.clear()


@pytest.mark.parametrize("text", ["", "{", "[]", "17", '{"store": "http://host"}', "\xff"])
def test_damaged_note_is_nothing(tmp_path, text):
    (tmp_path / ".mlflow.away").write_text(text, encoding="latin-1")
    Memory(tmp_path, "http://host").check()


def test_note_holds_no_more_than_it_says(tmp_path):
    Memory(tmp_path, "http://host").note("it hung")
    assert json.loads((tmp_path / ".mlflow.away").read_text()).keys() == {"store", "since", "reason"}


def test_folder_that_takes_no_note_is_no_fault(tmp_path):
    (tmp_path / "file").write_text("")
    memory = Memory(tmp_path / "file", "http://host")
    memory.note("it hung")
    memory.check()
    memory.clear()
    assert os.listdir(tmp_path) == ["file"]

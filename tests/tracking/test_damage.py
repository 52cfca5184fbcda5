"""Damaged journals and cursors: a damaged line costs that line, and never becomes another value."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest

from oba.tracking import events
from oba.tracking.connection import Connection
from oba.tracking.cursor import Cursor, cursor_path, read_cursor
from oba.tracking.events import read_events
from oba.tracking.forward import Forwarder
from oba.tracking.journal import Journal, RunIdentity, last_points, read_attempt
from oba.tracking.lines import seal, unseal
from oba.tracking.store import Store

CHAIN = RunIdentity("exp", "chain", "the chain", tags={"a": "1"})
STAGE = RunIdentity("exp", "chain/keep0.30", "the stage", CHAIN, {"seed": "0"})
DATA = {"name": "d", "digest": "1", "source": "/d", "profile": {"images": 3}, "context": "train"}
NET = {"name": "net", "folder": "exp/net", "files": ["exp/net/plan.json"], "loader": "oba.export.pyfunc"}
NET |= {"inputs": [1, 8, 8], "outputs": 10, "values": {"seed": "0"}}


@pytest.fixture(autouse=True)
def _nobody_was_warned(monkeypatch):
    monkeypatch.setattr(events, "_warned", set())


@pytest.fixture
def path(tmp_path):
    """A journal of two attempts with every kind of event."""
    path = tmp_path / "stage.jsonl"
    for loss, attempt in ((0.5, "1"), (0.25, "2")):
        journal = Journal(path)
        journal.start(replace(STAGE, attempt=attempt), [tmp_path / "up.jsonl"])
        journal.write("params", values={"lr": "0.1"})
        journal.write("metrics", step=1, values={"loss": loss})
        journal.write("artifact", path="exp/run.json", folder=None)
        journal.write("chain", step=30, values={"top1": 1 - loss})
        journal.write("dataset", **DATA)
        journal.write("model", **NET)
        journal.write("experiment", values={"a": "b"})
        journal.write("end", status="FINISHED")
        journal.close()
    return path


def content(path):
    """Return all that a journal's events say."""
    return [(event.kind, event.time, event.attempt, json.dumps(event.fields)) for event in read_events(path)[0]]


BIT, BYTE, NEWLINE = (lambda i, byte: byte ^ (1 << i % 8)), (lambda i, byte: byte ^ 0xFF), (lambda *_: 10)


@pytest.mark.parametrize(("damage", "every"), [(BIT, 1), (BYTE, 7), (NEWLINE, 7)], ids=["bit", "byte", "newline"])
def test_damaged_byte_costs_its_line_and_changes_no_value(path, damage, every):
    whole, before = path.read_bytes(), content(path)
    attempts = {event[2]: read_attempt(path) for event in before}
    assert len(attempts) == 2
    for i in range(0, len(whole), every):
        byte = whole[i]
        if damage(i, byte) == byte:
            continue
        path.write_bytes(whole[:i] + bytes([damage(i, byte)]) + whole[i + 1 :])
        after = content(path)
        assert set(after) < set(before), i
        assert len(before) - len(after) <= 2, i  # two where their line end is gone
        attempt = read_attempt(path)
        assert attempt is not None
        assert {event.attempt for event in attempt.events} == {attempt.id}
        # The start of the second attempt may be lost: then the first one is the last that is known.
        loss = {"1": 0.5, "2": 0.25}[attempt.identity.attempt]
        assert [value for value, _ in last_points(attempt.events, "metrics").values()] in ([], [loss])


def test_every_damaged_line_is_told_once(path, caplog):
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"0.5", b"0.6")
    lines[4] = b"\0\0\r\0\xff\n"
    path.write_bytes(b"".join(lines))
    with caplog.at_level(logging.WARNING, "oba"):
        for _ in range(3):
            read_attempt(path)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: line {number} is damaged and passed over; what it reported is not sent to MLflow" for number in (4, 5)
    ]


@pytest.mark.parametrize(
    "line",
    [
        {"event": "metrics", "time": 5, "step": 1},
        {"event": "metrics", "time": 5, "step": "1", "values": {}},
        {"event": "metrics", "time": 5, "step": 1, "values": {"loss": "0.5"}},
        {"event": "metrics", "time": "5", "step": 1, "values": {}},
        {"event": "params", "time": 5, "values": {"lr": 1}},
        {"event": "end", "time": 5, "status": "GONE"},
        {"event": "start", "time": 5, "identity": STAGE.to_json()},
        {"event": "start", "time": 5, "attempt": "x", "identity": {"key": "k"}},
        {"event": "start", "time": 5, "attempt": "x", "identity": STAGE.to_json() | {"key": "it's"}},
        {"event": "artifact", "time": 5, "path": "../../etc/passwd", "folder": None},
        {"event": "artifact", "time": 5, "path": "/etc/passwd", "folder": None},
        {"event": "dataset", "time": 5, **DATA, "profile": {"images": "3"}},
        {"event": "dataset", "time": 5, **DATA, "digest": "d" * 37},
        {"event": "dataset", "time": 5, **DATA, "name": ""},
        {"event": "model", "time": 5, **NET, "name": "a/b"},
        {"event": "model", "time": 5, **NET, "folder": "/etc"},
        {"event": "model", "time": 5, **NET, "files": ["../secret"]},
        {"event": "model", "time": 5, **NET, "loader": "os; rm"},
        {"event": "model", "time": 5, **NET, "outputs": "10"},
        {"event": "experiment", "time": 5, "values": {"a": 1}},
        {"event": "unheard of", "time": 5},
        {"event": ["start"], "time": 5},
        {"time": 5},
        [],
        "text",
        None,
    ],
)
@pytest.mark.parametrize("sealed", [True, False])
def test_line_that_says_nothing_sensible_is_passed_over(path, line, sealed):
    before = read_attempt(path)
    assert before is not None
    with path.open("ab") as stream:
        stream.write((seal(line) if sealed and isinstance(line, dict) else json.dumps(line).encode()) + b"\n")
    after = read_attempt(path)
    assert after is not None
    assert (after.events, after.identity) == (before.events, before.identity)
    assert after.end == path.stat().st_size


def test_deeply_nested_line_is_passed_over(path):
    before = content(path)
    with path.open("ab") as stream:
        stream.write(b"[" * 200_000 + b"\n")
    assert content(path) == before


def test_lines_without_checksums_are_read_as_before(tmp_path):
    path = tmp_path / "old.jsonl"
    lines = [
        {"event": "start", "time": 1, "attempt": "a", "identity": STAGE.to_json()},
        {"event": "metrics", "time": 2, "step": 1, "values": {"loss": 0.5}},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    old = read_attempt(path)
    assert old is not None
    assert (old.id, old.host, last_points(old.events, "metrics")) == ("a", "", {("loss", 1): (0.5, 2)})
    journal = Journal(path)
    journal.start(STAGE)
    journal.write("metrics", step=2, values={"loss": 0.25})
    journal.close()
    new = read_attempt(path)
    assert new is not None
    assert new.id == "a"
    assert {place: value for place, (value, _) in last_points(new.events, "metrics").items()} == {
        ("loss", 1): 0.5,
        ("loss", 2): 0.25,
    }


def test_sealed_line_is_json_and_comes_back():
    fields = {"event": "metrics", "values": {"naïve": 0.1, 'quo"te': float("inf")}}
    line = seal(fields)
    assert json.loads(line) == fields | {"crc": json.loads(line)["crc"]}
    assert unseal(line) == (fields, True)


def test_cursor_comes_back_and_any_damaged_byte_makes_it_none(path):
    cursor = Cursor("http://host", "run", path.stat().st_size, "FINISHED", "key", "1", 17)
    cursor.write(path)
    assert read_cursor(path) == cursor
    whole = cursor_path(path).read_bytes()
    for i in range(len(whole) - 1):
        cursor_path(path).write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        assert read_cursor(path) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"store": "s", "run": "r", "offset": "7"}',
        '{"store": "s", "run": "r", "offset": -7}',
        '{"store": "s", "run": "r", "offset": 7, "more": 1}',
        seal({"run": "r"}).decode(),
    ],
)
def test_cursor_that_says_nothing_sensible_is_none(path, content):
    cursor_path(path).write_text(content)
    assert read_cursor(path) is None


def test_cursor_of_an_earlier_version_is_read(path):
    cursor_path(path).write_text('{\n "store": "s",\n "run": "r",\n "offset": 7\n}\n')
    assert read_cursor(path) == Cursor("s", "r", 7)


def test_damaged_journal_and_cursor_send_what_is_left_once(lab):
    journal = Journal(lab.journal())
    journal.start(lab.identity())
    for step in (1, 2, 3):
        journal.write("metrics", step=step, values={"loss": step / 8})
    journal.write("end", status="FINISHED")
    journal.close()
    lines = lab.journal().read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"0.25", b"0.75")
    lab.journal().write_bytes(b"".join(lines))
    for _ in range(2):
        Forwarder(lab.journal(), Store(Connection(lab.uri, lab.results))).forward()
        assert [(step, value) for _, step, _, value in lab.history(lab.run())] == [(1, 0.125), (3, 0.375)]
        assert lab.run().info.status == "FINISHED"
        cursor_path(lab.journal()).write_text("damaged")

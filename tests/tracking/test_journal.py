"""Journals: durable lines, torn tails, attempts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from oba.tracking.journal import Journal, RunIdentity, adopt, last_points, last_tags, now_ms, read_attempt

CHAIN = RunIdentity("exp", "chain", "the chain", tags={"a": "1"})
STAGE = RunIdentity("exp", "chain/keep0.30", "the stage", CHAIN, {"seed": "0", "job": ""})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "folder" / "stage.jsonl"


def write(path, *events, identity=STAGE, end=None):
    """Append a start, events and perhaps an end, as one process would."""
    journal = Journal(path)
    journal.start(identity)
    for kind, fields in events:
        journal.write(kind, **fields)
    if end:
        journal.write("end", status=end)
    journal.close()


def metrics(step, **values):
    return "metrics", {"step": step, "values": values}


def test_identity_survives_json():
    assert RunIdentity.from_json(json.loads(json.dumps(STAGE.to_json()))) == STAGE


def test_identity_of_an_older_journal_is_read():
    value = STAGE.to_json()
    del value["attempt"], value["parent"]["attempt"]
    assert RunIdentity.from_json(value) == STAGE


def test_key_that_cannot_be_searched_for_is_refused():
    with pytest.raises(ValueError, match=r"key \"it's\" has a quotation mark; allowed: text without any"):
        RunIdentity("exp", "it's", "name")


def test_events_come_back_with_their_times_and_positions(path):
    before = now_ms()
    write(path, ("params", {"values": {"lr": "0.1"}}), metrics(1, loss=2.0, top1=float("nan")), end="FINISHED")
    attempt = read_attempt(path)
    assert attempt is not None
    assert [event.kind for event in attempt.events] == ["start", "tags", "params", "metrics", "end"]
    assert attempt.identity == STAGE
    assert attempt.params == {"lr": "0.1"}
    assert last_tags(attempt.events) == {"seed": "0"}
    loss, when = last_points(attempt.events, "metrics")["loss", 1]
    assert loss == 2.0
    assert before <= attempt.started <= when <= attempt.state[1] <= now_ms()
    assert attempt.state[0] == "FINISHED"
    assert attempt.end == path.stat().st_size
    lines = path.read_bytes().splitlines(keepends=True)
    assert [event.end for event in attempt.events] == [sum(map(len, lines[: n + 1])) for n in range(5)]


def test_every_line_is_on_disk_before_the_writer_goes_on(path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(path.stat().st_size))
    write(path, metrics(1, loss=1.0))
    lines = path.read_bytes().splitlines(keepends=True)
    assert flushed == [sum(map(len, lines[: n + 1])) for n in range(3)]


def test_torn_last_line_is_not_read_and_is_cut_off_by_the_next_writer(path):
    write(path, metrics(1, loss=1.0))
    with path.open("ab") as stream:
        stream.write(b'{"event": "metrics", "time": 17, "step": 2, "val')
    torn = read_attempt(path)
    assert torn is not None
    assert last_points(torn.events, "metrics").keys() == {("loss", 1)}
    write(path, metrics(2, loss=0.5))
    attempt = read_attempt(path)
    assert attempt is not None
    assert last_points(attempt.events, "metrics").keys() == {("loss", 1), ("loss", 2)}
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_line_of_a_destroyed_disk_block_is_passed_over(path):
    write(path, metrics(1, loss=1.0))
    with path.open("ab") as stream:
        stream.write(b"\0\0\r\0\xff\n")
    write(path, metrics(2, loss=0.5))
    attempt = read_attempt(path)
    assert attempt is not None
    assert last_points(attempt.events, "metrics").keys() == {("loss", 1), ("loss", 2)}
    assert attempt.end == path.stat().st_size


@pytest.mark.parametrize("end", [None, "FAILED", "KILLED"])
def test_stage_that_did_not_finish_goes_on_in_the_same_attempt(path, end):
    write(path, metrics(1, loss=1.0), end=end)
    first = read_attempt(path)
    write(path, metrics(1, loss=0.9), metrics(2, loss=0.5))
    second = read_attempt(path)
    assert first is not None
    assert second is not None
    assert second.id == first.id
    assert second.started == first.started
    assert second.state[0] == "RUNNING"
    points = last_points(second.events, "metrics")
    assert {place: value for place, (value, _) in points.items()} == {("loss", 1): 0.9, ("loss", 2): 0.5}


@pytest.mark.parametrize(
    ("end", "identity"),
    [
        ("FINISHED", STAGE),
        (None, RunIdentity("exp", "another/key", "the stage")),
        (None, RunIdentity("another", "chain/keep0.30", "the stage")),
        (None, RunIdentity("exp", "chain/keep0.30", "the stage", attempt="other settings")),
    ],
)
def test_stage_that_finished_or_became_another_begins_a_new_attempt(path, end, identity):
    write(path, metrics(1, loss=1.0), end=end)
    first = read_attempt(path)
    write(path, metrics(2, loss=0.5), identity=identity)
    second = read_attempt(path)
    assert first is not None
    assert second is not None
    assert second.id != first.id
    assert second.identity == identity
    assert last_points(second.events, "metrics").keys() == {("loss", 2)}


def test_first_value_of_a_parameter_and_last_value_of_a_tag_count(path):
    write(path, ("params", {"values": {"host": "a", "lr": "1"}}), ("tags", {"values": {"job": "7"}}))
    again = RunIdentity("exp", STAGE.key, "the stage", CHAIN, {"seed": "0", "job": "8"})
    write(path, ("params", {"values": {"host": "b", "more": "2"}}), identity=again)
    attempt = read_attempt(path)
    assert attempt is not None
    assert attempt.params == {"host": "a", "lr": "1", "more": "2"}
    assert last_tags(attempt.events) == {"seed": "0", "job": "8"}
    assert attempt.identity == again


def test_journal_without_a_start_has_no_attempt(path):
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert read_attempt(path) is None


def test_chain_metrics_are_kept_apart(path):
    write(path, metrics(1, top1=0.1), ("chain", {"step": 30, "values": {"top1": 0.9}}))
    attempt = read_attempt(path)
    assert attempt is not None
    assert last_points(attempt.events, "metrics").keys() == {("top1", 1)}
    assert last_points(attempt.events, "chain").keys() == {("top1", 30)}


def adopted(path):
    attempt = read_attempt(path)
    assert attempt is not None
    return attempt.identity.parent


def test_finished_stages_upstream_are_adopted_by_a_newer_attempt_of_their_chain(tmp_path):
    first, second, third = (tmp_path / name / "run.jsonl" for name in ("first", "second", "third"))
    for path, upstream in ((first, []), (second, [first, tmp_path / "none.jsonl"])):
        journal = Journal(path)
        journal.start(STAGE, upstream)
        journal.write("end", status="FINISHED")
        journal.close()
    write(third, identity=STAGE)
    newer = replace(CHAIN, attempt="2")
    before = read_attempt(second)
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    first, second, third = (moved / path.relative_to(tmp_path) for path in (first, second, third))
    for path in (second, third):
        adopt(path, newer)
    after = read_attempt(second)
    assert adopted(first) == adopted(second) == newer
    assert adopted(third) == CHAIN  # did not finish: it runs again
    assert (after.id, after.state, after.started) == (before.id, before.state, before.started)
    assert before.joined == before.started <= after.joined == after.events[-1].time
    sizes = [path.stat().st_size for path in (first, second)]
    adopt(second, newer)
    assert [path.stat().st_size for path in (first, second)] == sizes
    write(second, identity=STAGE)
    assert adopted(second) == CHAIN


@pytest.mark.parametrize("parent", [None, replace(CHAIN, key="another"), replace(CHAIN, experiment="another")])
def test_stage_outside_the_chain_is_not_adopted(path, parent):
    write(path, identity=replace(STAGE, parent=parent), end="FINISHED")
    adopt(path, replace(CHAIN, attempt="2"))
    assert adopted(path) == parent


def test_lines_of_threads_do_not_mix(path):
    journal = Journal(path)
    journal.start(STAGE)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda step: journal.write("metrics", step=step, values={"loss": 1.0 * step}), range(200)))
    journal.close()
    attempt = read_attempt(path)
    assert attempt is not None
    assert len(last_points(attempt.events, "metrics")) == 200


def test_stages_pay_no_import_of_mlflow_until_they_send():
    code = (
        "import sys, oba.tracking; print([m for m in ('mlflow', 'torch', 'sqlalchemy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

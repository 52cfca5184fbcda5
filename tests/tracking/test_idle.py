"""Journals that a store has whole are neither read nor asked for, and nothing else is taken for one of these."""

from __future__ import annotations

import json
import sqlite3

import pytest

from oba.errors import TrackingError
from oba.tracking import find_journals, stage_run, sync
from oba.tracking.connection import Connection
from oba.tracking.cursor import cursor_path
from oba.tracking.idle import Idle
from oba.tracking.journal import Journal
from oba.tracking.store import Store


@pytest.fixture
def sent(own_lab):
    """Two stages of a chain that were sent, in a store for this test alone."""
    lab = own_lab
    for key in ("a", "b"):
        identity = lab.identity(key, parent=True)
        with stage_run(lab.journal(key), identity, uri=lab.uri, results_dir=lab.results) as run:
            run.metrics({"loss": 0.5}, step=1)
            run.chain_metrics({"test_top1": 0.75}, step=ord(key))
    return [lab.journal("a"), lab.journal("b")]


@pytest.fixture
def rest(own_lab):
    """Return which of some journals must be looked at, as a new process would."""
    return lambda journals: Idle(journals, Store(Connection(own_lab.uri, own_lab.results))).rest()


def test_nothing_is_opened_when_everything_was_sent(own_lab, sent, monkeypatch):
    def refuse(self):
        raise AssertionError("opened")

    monkeypatch.setattr(Connection, "open", refuse)
    monkeypatch.setattr("oba.tracking.mirror.close_if_dead", refuse)
    report = sync(sent, own_lab.uri, own_lab.results)
    assert str(report) == "0 of 2 runs sent: 0 metrics, 0 parameters, 0 artifacts"


def test_journal_that_grew_is_looked_at(own_lab, sent, rest):
    assert rest(sent) == []
    journal = Journal(sent[1])
    journal.start(own_lab.identity("b", parent=True))
    journal.close()
    assert rest(sent) == [sent[1]]


@pytest.mark.parametrize("text", ["", "{}", "of an earlier version"])
def test_journal_without_a_whole_cursor_is_looked_at_once(own_lab, sent, rest, text):
    cursor = own_lab.cursor("a")
    old = json.dumps({key: cursor[key] for key in ("store", "run", "offset")}, indent=1)
    cursor_path(sent[0]).write_text(old if text.startswith("of") else text)
    assert rest(sent) == [sent[0]]
    report = sync(sent, own_lab.uri, own_lab.results)
    assert (report.metrics, report.artifacts, report.refused) == (0, 0, {})
    assert own_lab.cursor("a") == cursor
    assert rest(sent) == []


def test_run_that_goes_on_is_looked_at(own_lab, rest):
    with stage_run(own_lab.journal(), own_lab.identity(), uri=own_lab.uri, results_dir=own_lab.results, every=0) as run:
        run.metrics({"loss": 0.5}, step=1)
        assert own_lab.cursor()["offset"] == own_lab.journal().stat().st_size
        assert rest([own_lab.journal()]) == [own_lab.journal()]
    assert rest([own_lab.journal()]) == []


def test_store_that_was_replaced_gets_everything_again(own_lab, sent, rest, new_store):
    before = [own_lab.history(own_lab.run(key)) for key in ("a", "b", "chain")]
    new_store(own_lab.results)
    assert rest(sent) == sent
    assert sync(sent, own_lab.uri, own_lab.results).updated == 2
    assert [own_lab.history(own_lab.run(key)) for key in ("a", "b", "chain")] == before
    assert rest(sent) == []


def test_other_store_gets_everything(own_lab, sent, new_store, tmp_path):
    other = type(own_lab)(own_lab.results, new_store(tmp_path / "other"))
    assert sync(sent, other.uri, own_lab.results).updated == 2
    assert sync(sent, other.uri, own_lab.results).updated == 0
    assert sync(sent, own_lab.uri, own_lab.results).metrics == 0
    assert other.history(other.run("a")) == own_lab.history(own_lab.run("a"))


def test_run_that_is_gone_from_the_store_is_sent_again(own_lab, sent, rest):
    number = own_lab.run("a").info.run_id
    with sqlite3.connect(own_lab.results / "mlflow.db") as database:
        for table in ("tags", "params", "metrics", "latest_metrics", "runs"):
            database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", [number])
    database.close()
    assert rest(sent) == [sent[0]]
    assert sync(sent, own_lab.uri, own_lab.results).metrics == 1
    assert own_lab.run("a").info.status == "FINISHED"


def test_file_that_another_mlflow_may_have_written_is_asked_about_everything(own_lab, sent, rest):
    with sqlite3.connect(own_lab.results / "mlflow.db") as database:
        database.execute("ALTER TABLE experiments RENAME COLUMN creation_time TO born")
    database.close()
    assert rest(sent) == sent


def test_file_that_cannot_be_opened_is_refused(own_lab, sent, rest):
    (own_lab.results / "mlflow.db").write_text("this is no database" * 100)
    with pytest.raises(TrackingError, match="file is not a database"):
        rest(sent)


def test_journals_are_found_in_order(tmp_path):
    for name in ("b/run.jsonl", "a/z/run.jsonl", "a/run.jsonl", "a/run.jsonl.sent", "a/run.jsonl.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_journals(tmp_path) == [tmp_path / name for name in ("a/run.jsonl", "a/z/run.jsonl", "b/run.jsonl")]
    assert find_journals(tmp_path / "none") == []

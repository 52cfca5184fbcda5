"""Tags of an experiment: set, kept up, and left to people who changed them."""

from __future__ import annotations

import pytest

from oba.tracking import begin, stage_run, sync
from oba.tracking.connection import Connection
from oba.tracking.described import describe
from oba.tracking.store import Store


@pytest.fixture
def tags(lab):
    """Return the tags of the experiment."""
    return lambda: lab.client.get_experiment_by_name(lab.experiment).tags


@pytest.fixture
def tell(lab):
    """Describe the experiment, as a new process would."""

    def tell(**values):
        store = Store(Connection(lab.uri, lab.results))
        store.connection.open()
        describe(store, lab.experiment, values)

    return tell


def test_text_is_set_and_follows_the_study(tell, tags, lab):
    tell(note="see #/experiments/{experiment}", view="1")
    number = lab.client.get_experiment_by_name(lab.experiment).experiment_id
    assert (tags()["note"], tags()["view"]) == (f"see #/experiments/{number}", "1")
    tell(note="new", view="1")
    assert (tags()["note"], tags()["view"]) == ("new", "1")


def test_what_people_wrote_stays(tell, tags, lab):
    tell(note="ours", view="1")
    lab.client.set_experiment_tag(lab.client.get_experiment_by_name(lab.experiment).experiment_id, "note", "theirs")
    tell(note="new", view="2")
    assert (tags()["note"], tags()["view"]) == ("theirs", "2")


def test_killed_between_text_and_checksum_goes_on(tell, tags, monkeypatch):
    call = Connection.call

    def cut(self, method, *args, **kwargs):
        if method == "set_experiment_tag" and args[1] == "oba.said":
            raise KeyboardInterrupt
        return call(self, method, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "call", cut)
        with pytest.raises(KeyboardInterrupt):
            tell(note="first")
    tell(note="first")
    tell(note="second")
    assert tags()["note"] == "second"


def test_nothing_is_sent_where_nothing_changed(tell, monkeypatch):
    tell(note="text")
    calls, call = [], Connection.call
    monkeypatch.setattr(Connection, "call", lambda self, *a, **k: calls.append(a[0]) or call(self, *a, **k))
    tell(note="text")
    assert "set_experiment_tag" not in calls


def test_damaged_checksums_overwrite_nothing(tell, tags, lab):
    tell(note="text")
    lab.client.set_experiment_tag(lab.client.get_experiment_by_name(lab.experiment).experiment_id, "oba.said", "[")
    tell(note="new")
    assert tags()["note"] == "text"


def test_begin_describes_and_a_journal_does_so_later(lab, tags):
    assert begin(lab.experiment, lab.uri, lab.results, {"note": "at the start"})
    assert tags()["note"] == "at the start"
    with stage_run(lab.journal(), lab.identity(), uri="http://127.0.0.1:1", results_dir=lab.results) as run:
        run.experiment({"note": "later"})
    sync([lab.journal()], lab.uri, lab.results)
    assert tags()["note"] == "later"

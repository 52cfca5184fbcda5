"""Experiments and runs in a real SQLite store."""

from __future__ import annotations

import logging
import math

import pytest

from oba.errors import TrackingError
from oba.tracking import RunIdentity
from oba.tracking.connection import Connection
from oba.tracking.store import Store


@pytest.fixture
def store(lab):
    connection = Connection(lab.uri, lab.results)
    connection.open()
    return Store(connection)


def test_experiment_is_created_once_with_its_artifacts_in_the_results(lab, store):
    first = store.experiment(lab.experiment).experiment_id
    assert Store(store.connection).experiment(lab.experiment).experiment_id == first
    found = lab.client.get_experiment(first)
    assert found.artifact_location == (lab.results / "mlartifacts" / lab.experiment).as_uri()


def test_deleted_experiment_is_refused_with_a_cure(lab, store):
    number = store.experiment(lab.experiment).experiment_id
    lab.client.delete_experiment(number)
    with pytest.raises(
        TrackingError, match=rf"'{lab.experiment}' was deleted; allowed: `mlflow .*--experiment-id {number}`"
    ):
        Store(store.connection).experiment(lab.experiment)


def test_run_is_found_by_its_key(lab, store):
    run = store.create(lab.identity("a/b"), started=1234, tags={"stage_attempt": "7"})
    store.create(lab.identity("a/c"), started=1234, tags={})
    (found,) = store.runs(lab.identity("a/b"))
    assert found.info.run_id == run.info.run_id
    assert (found.info.start_time, found.info.status, found.info.run_name) == (1234, "RUNNING", "name of a/b")
    assert found.data.tags["stage_attempt"] == "7"
    assert store.runs(RunIdentity(lab.experiment, "a", "a")) == []


def test_of_runs_created_twice_one_is_kept(lab, store):
    made = [store.create(lab.identity(), started=1, tags={"stage_attempt": "7"}) for _ in range(3)]
    other = store.create(lab.identity(), started=1, tags={"stage_attempt": "8"})
    renewed = store.create(lab.identity(), started=2, tags={"stage_attempt": "7"})
    store.log(made[1].info.run_id, metrics=[("loss", 0.5, 1, 1)])
    store.log(made[2].info.run_id, metrics=[("loss", 0.5, 1, 1), ("top1", 0.5, 1, 1)])
    for _ in range(2):
        found = {run.info.run_id for run in store.runs(lab.identity())}
        assert found == {run.info.run_id for run in (made[2], other, renewed)}
    states = {run.info.run_id: run for run in lab.runs()}
    assert [states[run.info.run_id].info.lifecycle_stage for run in made] == ["deleted", "active", "active"]
    assert states[made[1].info.run_id].data.tags["superseded_by"] == made[2].info.run_id
    assert [states[run.info.run_id].info.status for run in made[1:]] == ["KILLED", "RUNNING"]


def test_running_runs_and_experiments_are_found(lab, store):
    number = store.experiment(lab.experiment).experiment_id
    runs = [store.create(lab.identity(str(n)), started=1, tags={}) for n in range(3)]
    store.set_status(runs[1].info.run_id, "FINISHED", 2)
    assert {run.info.run_id for run in store.running(number)} == {runs[0].info.run_id, runs[2].info.run_id}
    created = lab.client.get_experiment(number).creation_time
    assert store.experiments({number, "none"}) == {number: created}


def test_values_beyond_the_limits_of_one_call_arrive(lab, store):
    run = store.create(lab.identity(), started=1, tags={})
    metrics = [("loss", step / 7, 1_700_000_000_000 + step, step) for step in range(2345)]
    params = {f"p{n}": "x" * 6000 for n in range(150)}
    store.log(run.info.run_id, metrics=metrics, params=params, tags={f"t{n}": "y" for n in range(150)})
    found = lab.run()
    assert found.data.params == params
    assert {f"t{n}" for n in range(150)} <= found.data.tags.keys()
    assert lab.history(found) == [("loss", step, when, value) for _, value, when, step in metrics]


def test_numbers_that_are_none_arrive(lab, store):
    run = store.create(lab.identity(), started=1, tags={})
    store.log(run.info.run_id, metrics=[("nan", math.nan, 5, 1), ("inf", math.inf, 5, 1)])
    (_, _, _, inf), (_, _, _, nan) = lab.history(lab.run())
    assert math.isnan(nan)
    assert inf > 1e300


def test_history_gives_the_latest_value_of_each_step(lab, store):
    run = store.create(lab.identity(), started=1, tags={})
    store.log(run.info.run_id, metrics=[("a", 0.1, 100, 30), ("a", 0.2, 50, 30), ("a", 0.3, 60, 50), ("b", 1.0, 1, 1)])
    assert store.history(lab.run(), {"a", "unknown"}) == {("a", 30): (0.1, 100), ("a", 50): (0.3, 60)}


def test_status_ends_and_begins_again(lab, store):
    run = store.create(lab.identity(), started=1, tags={})
    store.set_status(run.info.run_id, "FAILED", 99)
    assert (lab.run().info.status, lab.run().info.end_time) == ("FAILED", 99)
    store.set_status(run.info.run_id, "RUNNING", 0)
    assert lab.run().info.status == "RUNNING"


def test_experiment_of_another_process_is_found(lab, store, monkeypatch):
    call, other = store.connection.call, Store(Connection(lab.uri, lab.results))
    other.connection.open()

    def late(method, *args, **kwargs):
        """Let the other process be faster, between this one's look and its lock."""
        found = call(method, *args, **kwargs)
        if method == "get_experiment_by_name" and not found:
            monkeypatch.setattr(store, "_call", call)
            other.experiment(lab.experiment)
        return found

    monkeypatch.setattr(store, "_call", late)
    found, theirs = store.experiment(lab.experiment), other.experiment(lab.experiment)
    assert found.experiment_id == theirs.experiment_id


def test_results_that_were_moved_do_not_write_to_their_old_place(own_lab, caplog):
    connection = Connection(own_lab.uri, own_lab.results)
    connection.open()
    Store(connection).experiment("exp")
    moved = own_lab.results.with_name("moved")
    own_lab.results.rename(moved)
    (moved / "note.txt").write_text("note")
    connection = Connection(f"sqlite:///{moved}/mlflow.db", moved)
    connection.open()
    with caplog.at_level(logging.WARNING, "oba"):
        elsewhere = Store(connection)
        run = elsewhere.create(own_lab.identity(), started=1, tags={})
        assert not elsewhere.upload(run, moved / "note.txt", None)
    assert not own_lab.results.exists()
    (record,) = caplog.records
    assert "artifacts of the MLflow experiment 'exp' belong to" in record.getMessage()
    assert "they are not sent" in record.getMessage()

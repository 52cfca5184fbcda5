"""From a journal to a store: everything, once, whatever was killed when."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from filelock import FileLock

from oba.errors import TrackingError
from oba.tracking.connection import Connection
from oba.tracking.forward import Forwarder, Sent
from oba.tracking.journal import Journal, read_attempt
from oba.tracking.store import Store


@pytest.fixture
def forward(lab):
    """Pass a journal on, as a new process would."""

    def forward(key="stage"):
        return Forwarder(lab.journal(key), Store(Connection(lab.uri, lab.results))).forward()

    return forward


def report(lab, *steps, key="stage", end=None, parent=False, chain=None, artifact=None, value=1.0, params=None, **tags):
    """Journal a stage's start, some steps and perhaps its end."""
    journal = Journal(lab.journal(key))
    journal.start(lab.identity(key, parent=parent, **tags))
    if params:
        journal.write("params", values=params)
    for step in steps:
        journal.write("metrics", step=step, values={"loss": value / step, "top1": value - 1 / step})
    if artifact:
        journal.write("artifact", path=artifact, folder=None)
    if chain:
        journal.write("chain", step=chain[0], values=chain[1])
    if end:
        journal.write("end", status=end)
    journal.close()


def test_everything_arrives_with_its_times(lab, forward):
    (lab.folder / "run.json").write_text("{}")
    report(lab, 1, 2, params={"lr": "0.1"}, artifact=f"{lab.experiment}/run.json", end="FINISHED", seed="0")
    assert forward() == Sent(updated=True, metrics=4, params=1, artifacts=1)
    run, attempt = lab.run(), read_attempt(lab.journal())
    assert lab.history(run) == lab.reported()
    assert run.data.params == {"lr": "0.1"}
    assert run.data.tags.items() >= {"stage_key": "stage", "seed": "0", "stage_attempt": attempt.id}.items()
    assert (run.info.run_name, run.info.status) == ("name of stage", "FINISHED")
    assert (run.info.start_time, run.info.end_time) == (attempt.started, attempt.state[1])
    assert lab.artifacts(run) == {"run.json": 2}
    assert (lab.results / "mlartifacts" / lab.experiment / run.info.run_id / "artifacts" / "run.json").exists()


def test_second_pass_sends_only_what_is_new(lab, forward):
    report(lab, 1, 2, params={"lr": "0.1"})
    forward()
    assert forward() == Sent()
    report(lab, 3, params={"lr": "0.1", "more": "1"})
    assert forward() == Sent(updated=True, metrics=2, params=1)
    assert lab.history(lab.run()) == lab.reported()
    assert lab.cursor()["offset"] == lab.journal().stat().st_size


def test_same_forwarder_goes_on_without_asking_again(lab, monkeypatch):
    store = Store(Connection(lab.uri, lab.results))
    report(lab, 1)
    forwarder = Forwarder(lab.journal(), store)
    forwarder.forward()
    report(lab, 1, 2)
    calls, call = [], store.connection.call
    monkeypatch.setattr(store, "_call", lambda method, *a, **k: calls.append(method) or call(method, *a, **k))
    assert forwarder.forward() == Sent(updated=True, metrics=2)
    assert calls == ["log_batch"]
    assert [point[:2] for point in lab.history(lab.run())] == [("loss", 1), ("loss", 2), ("top1", 1), ("top1", 2)]


@pytest.mark.parametrize("loss", ["cursor", "older cursor"])
def test_killed_between_sending_and_noting_it(lab, forward, loss):
    report(lab, 1, 2)
    forward()
    older = lab.journal().with_name("older")
    shutil.copy(f"{lab.journal()}.sent", older)
    report(lab, 3)
    forward()
    before = lab.history(lab.run())
    assert len(before) == 6
    if loss == "cursor":
        (lab.journal().parent / f"{lab.journal().name}.sent").unlink()
    else:
        shutil.copy(older, f"{lab.journal()}.sent")
    report(lab, 3, 4, value=2.0)
    assert forward().metrics == 2
    after = lab.history(lab.run())
    assert [point for point in after if point[1] < 4] == before
    assert len(after) == 8


def test_last_value_counts_before_sending_and_is_never_sent_twice(lab, forward):
    report(lab, 1, value=1.0)
    report(lab, 1, value=5.0)
    forward()
    assert [point[3] for point in lab.history(lab.run())] == [5.0, 4.0]
    report(lab, 1, value=7.0)
    assert forward() == Sent(updated=True)
    assert [point[3] for point in lab.history(lab.run())] == [5.0, 4.0]


def test_deleted_store_is_filled_anew(own_lab, new_store):
    lab = own_lab
    (lab.results / "note.txt").write_text("note")
    report(lab, 1, 2, params={"lr": "1"}, artifact="note.txt", parent=True, chain=(30, {"top1": 0.5}), end="FINISHED")
    Forwarder(lab.journal(), Store(Connection(lab.uri, lab.results))).forward()
    old, before = lab.run(), lab.history(lab.run())
    new_store(lab.results)
    assert lab.runs() == []
    sent = Forwarder(lab.journal(), Store(Connection(lab.uri, lab.results))).forward()
    assert sent == Sent(updated=True, metrics=4, params=1, artifacts=1)
    assert lab.run().info.run_id != old.info.run_id
    assert lab.history(lab.run()) == before
    assert lab.history(lab.run("chain"))[0][:2] == ("top1", 30)
    assert lab.run().data.tags["mlflow.parentRunId"] == lab.run("chain").info.run_id


def test_other_store_gets_everything_and_the_first_nothing_twice(lab, forward, new_store, tmp_path):
    report(lab, 1, 2, end="FINISHED")
    forward()
    other = type(lab)(lab.results, new_store(tmp_path), lab.experiment)
    Forwarder(lab.journal(), Store(Connection(other.uri, lab.results))).forward()
    assert other.history(other.run()) == lab.history(lab.run()) == lab.reported()
    assert forward().metrics == 0
    assert lab.history(lab.run()) == lab.reported()


def test_failed_stage_goes_on_in_its_run(lab, forward):
    report(lab, 1, end="FAILED")
    forward()
    assert lab.run().info.status == "FAILED"
    report(lab, 2)
    forward()
    assert lab.run().info.status == "RUNNING"
    report(lab, 3, end="FINISHED")
    forward()
    assert lab.run().info.status == "FINISHED"
    assert lab.history(lab.run()) == lab.reported()


def test_stage_that_runs_anew_gets_a_run_of_its_own(lab, forward):
    report(lab, 1, params={"epochs": "50"}, end="FINISHED")
    forward()
    report(lab, 1, params={"epochs": "100"}, value=3.0, end="FINISHED")
    forward()
    old, new = sorted(lab.runs(), key=lambda run: run.data.params["epochs"], reverse=True)
    assert (old.data.params, new.data.params) == ({"epochs": "50"}, {"epochs": "100"})
    assert old.data.tags["superseded_by"] == new.info.run_id
    assert "superseded_by" not in new.data.tags
    assert lab.history(new) == lab.reported()


def test_run_of_a_killed_stage_ends_when_the_stage_has_changed(lab, forward):
    report(lab, 1, 2, 3)
    forward()
    journal = Journal(lab.journal())
    journal.start(replace(lab.identity(), attempt="other settings"))
    journal.write("metrics", step=1, values={"loss": 9.0})
    journal.close()
    forward()
    old, new = lab.runs()
    assert (old.info.status, old.data.tags["superseded_by"]) == ("KILLED", new.info.run_id)
    assert new.info.status == "RUNNING"
    assert [point[1:2] + point[3:] for point in lab.history(new)] == [(1, 9.0)]


def test_runs_of_a_chain_are_nested_and_their_points_drawn_on_it(lab, forward):
    report(lab, 1, key="a", parent=True, chain=(70, {"test_top1": 0.9}), end="FINISHED")
    report(lab, 1, key="b", parent=True, chain=(30, {"test_top1": 0.8}), end="FINISHED")
    forward("b")
    forward("a")
    chain = lab.run("chain")
    assert {lab.run(key).data.tags["mlflow.parentRunId"] for key in "ab"} == {chain.info.run_id}
    assert [(step, value) for _, step, _, value in lab.history(chain)] == [(30, 0.8), (70, 0.9)]
    assert (chain.info.run_name, chain.data.tags["kind"], chain.info.status) == ("chain 1", "chain", "FINISHED")
    assert chain.info.end_time == lab.run("b").info.end_time


def test_runs_that_somebody_deleted_stay_deleted(lab, forward):
    report(lab, 1, parent=True)
    forward()
    lab.client.delete_run(lab.run().info.run_id)
    report(lab, 2, parent=True)
    assert forward() == Sent(deleted=True)
    assert len(lab.runs()) == 1


def test_chain_that_somebody_deleted_stays_deleted(lab, forward):
    report(lab, 1, parent=True)
    forward()
    lab.client.delete_run(lab.run("chain").info.run_id)
    report(lab, 2, parent=True, chain=(30, {"test_top1": 0.8}), end="FINISHED")
    assert forward().metrics == 2
    assert lab.run("chain").info.lifecycle_stage == "deleted"
    assert lab.run().info.status == "FINISHED"


def test_artifacts_of_a_finished_stage_are_sent_when_they_are_back(lab, forward):
    """A stage is killed after its last word, Snakemake removes its outputs, and the next run puts them back."""
    report(lab, 1, artifact=f"{lab.experiment}/run.json", end="FINISHED")
    assert forward() == Sent(updated=True, metrics=2, missing=1, awaited=1)
    assert lab.run().info.status == "FINISHED"
    assert forward() == Sent(updated=True, missing=1, awaited=1)
    (lab.folder / "run.json").write_text("{}")
    assert forward() == Sent(updated=True, artifacts=1)
    assert lab.artifacts(lab.run()) == {"run.json": 2}
    assert forward() == Sent()


def test_artifact_that_is_gone_is_counted(lab, forward):
    report(lab, 1, artifact="gone.json", end="FAILED")
    assert forward() == Sent(updated=True, metrics=2, missing=1)
    assert lab.artifacts(lab.run()) == {}


def test_journal_that_another_process_passes_on_is_left_to_it(lab):
    report(lab, 1)
    forwarder = Forwarder(lab.journal(), Store(Connection(lab.uri, lab.results)))
    forwarder._lock.timeout = 0.05
    with FileLock(f"{lab.journal()}.lock"):
        assert forwarder.forward() == Sent(busy=True)
    assert forwarder.forward().metrics == 2


def test_empty_journal_is_nothing_to_send(lab, forward):
    Journal(lab.journal()).close()
    assert forward() == Sent()


def test_refusal_leaves_the_cursor_where_it_was(lab, forward, monkeypatch):
    report(lab, 1)
    forward()
    before = lab.cursor()
    report(lab, 2)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "log", lambda *args, **kwargs: (_ for _ in ()).throw(TrackingError("refused")))
        with pytest.raises(TrackingError, match="refused"):
            forward()
    assert lab.cursor() == before
    assert forward().metrics == 2
    assert lab.history(lab.run()) == lab.reported()

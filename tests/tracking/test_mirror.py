"""Setting up the store once, and sending later what is missing."""

from __future__ import annotations

import logging

import pytest

from oba.errors import TrackingError
from oba.tracking import begin, stage_run, sync
from oba.tracking.forward import Forwarder
from oba.tracking.journal import Journal

DEAD = "http://127.0.0.1:1"


@pytest.fixture
def offline(lab):
    """Run stages while the server is dead."""

    def offline(*keys, steps=(1, 2, 3)):
        for key in keys:
            identity = lab.identity(key, parent=True)
            with stage_run(lab.journal(key), identity, uri=DEAD, results_dir=lab.results) as run:
                run.params({"key": key})
                for step in steps:
                    run.metrics({"loss": 1 / step, "top1": 1 - 1 / step}, step=step)
                run.artifact(lab.journal(key))
                run.chain_metrics({"test_top1": 0.5}, step=len(key))
        return [lab.journal(key) for key in keys]

    return offline


def test_processes_that_meet_a_fresh_store_together_all_pass(setup):
    from mlflow import MlflowClient

    assert "`oba sync`" not in setup.errors
    assert setup.output.startswith("0 of 6 runs sent: 0 metrics, 0 parameters, 0 artifacts")
    client = MlflowClient(f"sqlite:///{setup.root}/results/mlflow.db")
    number = client.get_experiment_by_name("fork").experiment_id
    runs = {run.data.tags["stage_key"]: run for run in client.search_runs([number], max_results=100)}
    assert sorted(runs) == ["chain", *(f"stage{n}" for n in range(6))]
    for n in range(6):
        run = runs[f"stage{n}"]
        assert run.data.tags["mlflow.parentRunId"] == runs["chain"].info.run_id
        assert run.data.params == {"number": str(n)}
        assert run.info.status == "FINISHED"
        for key, sign in (("a", 1), ("b", -1)):
            points = client.get_metric_history(run.info.run_id, key)
            assert sorted((p.step, p.value) for p in points) == [(s, sign * s) for s in range(1, 21)]
    points = client.get_metric_history(runs["chain"].info.run_id, "test_top1")
    assert sorted((p.step, p.value) for p in points) == [(n, n / 10) for n in range(6)]


def test_nothing_is_written_outside_the_results(setup):
    assert {path.name for path in setup.root.iterdir()} == {"cwd", "home", "tmp", "results"}
    assert [*(setup.root / "cwd").rglob("*"), *(setup.root / "home").rglob("*"), *(setup.root / "tmp").rglob("*")] == []
    made = {path.name for path in (setup.root / "results").iterdir()}
    assert made == {"mlflow.db", "mlartifacts", "fork", ".mlflow.lock"}


def test_mlflow_is_silent(setup):
    assert setup.errors == ""
    assert setup.output.count("\n") == 1


def test_begin_sets_up_the_experiment_once(lab, caplog):
    with caplog.at_level(logging.WARNING, "oba"):
        assert begin(lab.experiment, lab.uri, lab.results)
        first = lab.client.get_experiment_by_name(lab.experiment).experiment_id
        assert begin(lab.experiment, lab.uri, lab.results)
    assert lab.client.get_experiment_by_name(lab.experiment).experiment_id == first
    assert caplog.records == []


def test_begin_reports_a_dead_server_in_one_line(lab, caplog):
    with caplog.at_level(logging.WARNING, "oba"):
        assert not begin(lab.experiment, DEAD, lab.results)
    (record,) = caplog.records
    assert f"{DEAD} cannot be reached" in record.getMessage()
    assert "`oba sync`" in record.getMessage()


def test_sync_sends_what_a_dead_server_missed_and_nothing_twice(lab, offline):
    journals = offline("a", "bb")
    report = sync(journals, lab.uri, lab.results)
    assert (report.journals, report.updated, report.metrics, report.params, report.artifacts) == (2, 2, 12, 2, 2)
    assert str(report) == "2 of 2 runs sent: 12 metrics, 2 parameters, 2 artifacts"
    for key in ("a", "bb"):
        run = lab.run(key)
        assert lab.history(run) == lab.reported(key)
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == lab.run("chain").info.run_id
    again = sync(journals, lab.uri, lab.results)
    assert (again.journals, again.updated, again.metrics, again.artifacts) == (2, 0, 0, 0)
    assert lab.history(lab.run("a")) == lab.reported("a")
    assert [point[1] for point in lab.history(lab.run("chain"))] == [1, 2]


def test_sync_refuses_a_dead_server(lab, offline):
    journals = offline("a")
    with pytest.raises(TrackingError, match=rf"^{DEAD} cannot be reached") as caught:
        sync(journals, DEAD, lab.results)
    assert caught.value.exit_code == 10


def test_journal_that_is_refused_does_not_hold_up_the_others(lab, offline, monkeypatch):
    journals = offline("a", "bb")
    real = Forwarder.forward

    def forward(self):
        if self._journal == lab.journal("a"):
            raise TrackingError("no")
        return real(self)

    monkeypatch.setattr(Forwarder, "forward", forward)
    report = sync(journals, lab.uri, lab.results)
    assert report.refused == {lab.journal("a"): "no"}
    assert report.updated == 1
    assert str(report).splitlines()[1] == f"refused: {lab.journal('a')}: no"
    assert lab.history(lab.run("bb")) == lab.reported("bb")


def test_server_that_dies_during_sync_ends_it(lab, offline, monkeypatch):
    journals = offline("a", "bb")
    pings = []

    def ping(self):
        pings.append(self)
        if len(pings) > 1:
            raise TrackingError("died")

    monkeypatch.setattr("oba.tracking.store.Store.ping", ping)
    monkeypatch.setattr(Forwarder, "forward", lambda self: (_ for _ in ()).throw(TrackingError("no")))
    with pytest.raises(TrackingError, match="died"):
        sync(journals, lab.uri, lab.results)


def test_report_tells_what_was_not_sent(lab, offline):
    gone, deleted = offline("gone", "deleted")
    sync([deleted], lab.uri, lab.results)
    lab.client.delete_run(lab.run("deleted").info.run_id)
    journal = Journal(gone)
    journal.start(lab.identity("gone"))
    journal.write("artifact", path="no/such/file", folder=None)
    journal.write("end", status="FINISHED")
    journal.close()
    report = sync([gone, deleted], lab.uri, lab.results)
    assert (report.missing, report.deleted, report.busy) == (1, 1, 0)
    assert str(report).endswith("; 1 files are gone; 1 runs were deleted in MLflow")

"""A real tracking server: sent to, killed in the middle, stopped, started again, asked twice."""

from __future__ import annotations

import logging
import signal

import pytest

from oba.errors import TrackingError
from oba.tracking import RunIdentity, begin, stage_run, sync

pytestmark = pytest.mark.slow


def holding(folder, word):
    """Return the files in a folder that hold a word."""
    return [path for path in folder.rglob("*") if path.is_file() and word in path.read_bytes()]


def test_server_gets_everything_and_missed_parts_later(server, site, caplog, tmp_path):
    """One story, since a server takes long to start."""
    chain = site.chain
    assert begin(site.experiment, site.uri, site.results)
    report = site.folder / "report.txt"
    report.write_text("report")

    def stage(key: str):
        identity = RunIdentity(site.experiment, key, key, chain)
        return stage_run(site.journal(key), identity, uri=site.uri, results_dir=site.results, every=0)

    with stage("whole") as run:
        run.params({"lr": 0.1})
        run.metrics({"loss": 0.5}, step=1)
        run.artifact(report, folder="tables")
        run.chain_metrics({"test_top1": 0.9}, step=70)
    whole = site.run("whole")
    assert site.history(whole) == site.reported("whole")
    assert whole.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert site.artifacts(whole) == {"tables/report.txt": 6}
    assert not (site.results / "mlartifacts" / site.experiment).exists()

    with caplog.at_level(logging.WARNING, "oba"), stage("cut") as run:
        run.params({"lr": 0.2})
        for step in (1, 2):
            run.metrics({"loss": 1 / step, "top1": step / 9}, step=step)
        server.kill()
        for step in (3, 4, 5):
            run.metrics({"loss": 1 / step, "top1": step / 9}, step=step)
        run.artifact(report)
        run.chain_metrics({"test_top1": 0.8}, step=30)
    (record,) = caplog.records
    assert "`oba sync` sends this run later" in record.getMessage()
    assert "s3cret" not in caplog.text
    with stage("unseen") as run:
        run.metrics({"loss": 7.0}, step=1)
    journals = [site.journal(key) for key in ("whole", "cut", "unseen")]
    with pytest.raises(TrackingError, match=r"^http://127.0.0.1:\d+ cannot be reached"):
        sync(journals, site.uri, site.results)

    server.start()
    assert site.run("cut").info.status == "RUNNING"
    assert [point[1] for point in site.history(site.run("cut"))] == [1, 2, 1, 2]
    done = sync(journals, site.uri, site.results)
    assert (done.updated, done.metrics, done.artifacts) == (2, 7, 1)
    for key in ("whole", "cut", "unseen"):
        found = site.run(key)
        assert site.history(found) == site.reported(key)
        assert found.info.status == "FINISHED"
        assert found.data.tags["mlflow.parentRunId"] == site.run("chain").info.run_id
    assert site.artifacts(site.run("cut")) == {"report.txt": 6}
    points = site.history(site.run("chain"))
    assert [(step, value) for _, step, _, value in points] == [(30, 0.8), (70, 0.9)]
    again = sync(journals, site.uri, site.results)
    assert (again.updated, again.metrics) == (0, 0)
    assert site.history(site.run("chain")) == points
    assert site.cursor("cut")["store"] == server.uri
    assert holding(tmp_path, b"s3cret") == []
    assert holding(tmp_path, server.uri.encode()) != []


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_server_that_hangs_is_given_up_by_all_until_it_answers(server, site, caplog, monkeypatch):
    assert begin(site.experiment, site.uri, site.results)

    def stage(key):
        identity = site.identity(key, parent=True)
        return stage_run(site.journal(key), identity, uri=site.uri, results_dir=site.results, every=0)

    with caplog.at_level(logging.WARNING, "oba"), stage("first") as run:
        run.metrics({"loss": 1.0}, step=1)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        server.signal(signal.SIGSTOP)
        for step in range(2, 20):
            run.metrics({"loss": 1.0 / step}, step=step)
    (record,) = caplog.records
    assert "ReadTimeoutError" in record.getMessage()
    caplog.clear()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")  # whoever asked would wait
    with caplog.at_level(logging.WARNING, "oba"):
        for key in ("second", "third"):
            with stage(key) as run:
                run.metrics({"loss": 0.5}, step=1)
    assert ["was given up at" in record.getMessage() for record in caplog.records] == [True, True]
    journals = [site.journal(key) for key in ("first", "second", "third")]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with pytest.raises(TrackingError, match=r"cannot be reached \(no answer|timed out"):
        sync(journals, site.uri, site.results)

    server.signal(signal.SIGCONT)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    assert [point[1] for point in site.history(site.run("first"))][:1] == [1]
    assert sync(journals, site.uri, site.results).updated == 3
    before = {key: site.history(site.run(key)) for key in ("first", "second", "third")}
    assert before == {key: site.reported(key) for key in before}
    assert sync(journals, site.uri, site.results).updated == 0
    assert {key: site.history(site.run(key)) for key in before} == before
    caplog.clear()
    with caplog.at_level(logging.WARNING, "oba"), stage("fourth") as run:
        run.metrics({"loss": 0.25}, step=1)
    assert caplog.records == []
    assert site.run("fourth").info.status == "FINISHED"


def test_database_that_hangs_is_given_up_until_it_answers(lab, postgres, tmp_path, caplog, monkeypatch):
    results, uri = tmp_path / "results", postgres.new_database()
    journals = [results / "exp" / "journal" / f"{key}.jsonl" for key in ("first", "second")]
    assert begin(lab.experiment, uri, results)

    def stage(journal):
        return stage_run(journal, lab.identity(journal.stem), uri=uri, results_dir=results, every=0)

    with caplog.at_level(logging.WARNING, "oba"), stage(journals[0]) as run:
        run.metrics({"loss": 1.0}, step=1)
        monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        postgres.process.send_signal(signal.SIGSTOP)
        try:
            run.metrics({"loss": 0.5}, step=2)
            with stage(journals[1]) as other:
                other.metrics({"loss": 0.25}, step=1)
            with pytest.raises(TrackingError, match=r"cannot be reached \(no answer|timed out"):
                sync(journals, uri, results)
        finally:
            postgres.process.send_signal(signal.SIGCONT)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "timeout expired" in told[0]
    assert "was given up at" in told[1]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    monkeypatch.delenv("PGCONNECT_TIMEOUT")
    assert sync(journals, uri, results).updated == 2
    assert sync(journals, uri, results).updated == 0
    site = type(lab)(results, uri, lab.experiment)
    points = {key: [point[1:] for point in site.history(site.run(key))] for key in ("first", "second")}
    assert {key: [(step, value) for step, _, value in found] for key, found in points.items()} == {
        "first": [(1, 1.0), (2, 0.5)],
        "second": [(1, 0.25)],
    }

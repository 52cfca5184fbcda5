"""A server that answers late is asked again and creates a run twice: one is adopted, the other closed."""

from __future__ import annotations

import pytest

from oba.tracking import stage_run, sync

pytestmark = pytest.mark.slow


def active(site, key):
    """Return the only run of a key that was not deleted."""
    (run,) = [run for run in site.runs(key) if run.info.lifecycle_stage == "active"]
    return run


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_second_runs_of_stages_and_chains_are_closed(late, site, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    with stage_run(site.journal(), site.identity(parent=True), uri=late.uri, results_dir=site.results, every=0) as run:
        run.params({"lr": 0.1})
        run.metrics({"loss": 0.5}, step=1)
        run.chain_metrics({"test_top1": 0.75}, step=30)
    assert len(late.created) == 2
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    for key in ("stage", "chain"):
        assert sorted(run.info.status for run in site.runs(key)) == ["FINISHED", "RUNNING"]
    for _ in range(2):
        sync([site.journal()], late.uri, site.results)
        for key in ("stage", "chain"):
            assert active(site, key).info.status == "FINISHED"
            assert len(site.runs(key)) == 2
        assert active(site, "stage").data.tags["mlflow.parentRunId"] == active(site, "chain").info.run_id
        assert site.history(active(site, "stage")) == site.reported()
        assert [(step, value) for _, step, _, value in site.history(active(site, "chain"))] == [(30, 0.75)]

"""A sweep on a real SLURM with two GPUs ends as a local one does, whatever happens to its jobs."""

from __future__ import annotations

from collections import Counter

import pandas as pd
import pytest
from lab import GPUS
from submitted import at_once, kill_batch_script, working_on

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

SWEEP = {"methods": ["magnitude", "random"], "keep": [0.7], "runtime": {"device": "auto"}}
TIMED = ["latency_ms", "dense_latency_ms", "speedup", "speedup_low", "speedup_high", "seconds"]
"""Columns that no two runs have in common."""


@pytest.fixture(scope="session")
def local_table(tmp_path_factory, make_project):
    """The table of the sweep, run on this machine."""
    project = make_project(tmp_path_factory.mktemp("local"))
    project.write_study(**SWEEP)
    project.snakemake()
    return results_of(project)


def results_of(project) -> pd.DataFrame:
    return pd.read_csv(project.root / "results/tiny/report/runs.csv").drop(columns=TIMED)


def test_a_sweep_survives_its_jobs_and_its_scheduler(submit, slurm, project, local_table):
    """``scancel``, ``kill -9`` of a batch script and of slurmctld, in one sweep."""
    run = submit("--jobs", "8", **SWEEP)
    cancelled = run.running("dense")
    slurm.ask("scancel", cancelled.number)
    again = run.running("dense", known=[cancelled])
    kill_batch_script(slurm, again)
    third = run.running("dense", known=[cancelled, again])
    # The script asks the scheduler for its step; without an answer it ends, and SLURM holds such a job for its owner.
    run.waits_for(lambda: working_on("dense", third), "a training")
    slurm.kill_controller(knowing=third)
    slurm.start_controller()
    held: list[list[str]] = []
    run.finish(look=lambda: held.append([job.gpu for job in run.jobs() if job.state == "RUNNING" and job.gpu]))

    states = [job.state for job in run.jobs("dense")]
    assert states == ["CANCELLED", "FAILED", "COMPLETED"]
    assert {job.state for job in run.jobs() if job.rule != "dense"} == {"COMPLETED"}, "once each: one level retries"
    pd.testing.assert_frame_equal(results_of(project), local_table)

    on_gpus = [job for job in run.jobs() if job.fields.get("TresPerJob")]
    assert {job.rule for job in run.jobs()} - {job.rule for job in on_gpus} >= {"prepare", "split", "trace", "collect"}
    assert at_once(on_gpus) == GPUS, "all are used, and never more"
    assert all(len({*gpus}) == len(gpus) for gpus in held), "each job has one of its own"
    assert {gpu for gpus in held for gpu in gpus} == {"0", "1"}
    assert "slurm_logs/rule_dense" in run.said.read_text(), "the logs of failed jobs are named"
    kept = [path.stem for path in (project.root / ".snakemake/slurm_logs").rglob("*.log")]
    assert sorted(kept) == sorted([cancelled.number, again.number]), "and kept, others are not"


def test_jobs_of_whole_levels_survive_and_leave_the_same_table(submit, slurm, project, local_table):
    run = submit("--jobs", "8", "--config", "job_per=level", **SWEEP)
    cancelled = run.running("level")
    run.waits_for(lambda: working_on("prune+finetune+evaluate", cancelled), "a level's work")
    slurm.ask("scancel", cancelled.number)
    run.finish()
    assert Counter((job.rule, job.state) for job in run.jobs() if job.rule in {"dense", "level"}) == {
        ("dense", "COMPLETED"): 1,
        ("level", "CANCELLED"): 1,
        ("level", "COMPLETED"): 2,
    }
    assert {job.rule for job in run.jobs()} == {"prepare", "split", "trace", "dense", "level", "collect", "report"}
    pd.testing.assert_frame_equal(results_of(project), local_table)

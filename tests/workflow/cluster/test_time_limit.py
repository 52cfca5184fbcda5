"""Before its time is over a training is told, saves and is submitted again."""

from __future__ import annotations

import pandas as pd
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]
EPOCHS = 150
"""More than the first job has time for."""


def test_a_training_out_of_time_saves_and_goes_on_in_the_next_job(submit, project):
    profile = project.root / "profiles/slurm/config.yaml"
    # SLURM's shortest limit is a minute, and it may send the signal a minute too early.
    short = profile.read_text().replace("TERM@120", "TERM@40").replace("min(1440 * attempt, 2880)", "attempt")
    profile.write_text(short)
    run = submit("--until", "dense", dense={"epochs": EPOCHS, "batch_size": 64}, runtime={"device": "auto"})
    run.finish()
    jobs = run.jobs("dense")
    assert len(jobs) > 1
    assert [job.state for job in jobs] == [*["FAILED"] * (len(jobs) - 1), "COMPLETED"], "none ran into its limit"
    assert [job.fields["TimeLimit"] for job in jobs][:2] == ["00:01:00", "00:02:00"], "time grows with each attempt"
    for job in jobs[:-1]:
        log = (project.root / f".snakemake/slurm_logs/rule_dense/resnet8_0/{job.number}.log").read_text()
        assert "returned non-zero exit status 14" in log, "the training itself ended its job"
    history = pd.read_csv(project.root / "results/tiny/resnet8/seed0/dense/history.csv")
    assert list(history["epoch"]) == list(range(1, EPOCHS + 1))

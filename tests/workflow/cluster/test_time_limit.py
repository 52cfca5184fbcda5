"""Before its time is over a training is told, saves and is submitted again."""

from __future__ import annotations

import contextlib
import signal

import pandas as pd
import psutil
import pytest
from submitted import is_told, trained_epochs, working_on

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
DENSE = "resnet8/seed0/dense"
EPOCHS = 30


def test_a_training_out_of_time_saves_and_goes_on_in_the_next_job(submit, slurm, project):
    profile = project.root / "profiles/slurm/config.yaml"
    profile.write_text(profile.read_text().replace("TERM@180", "TERM@900"))  # also a slow machine saves in time
    run = submit("--until", "dense", dense={"epochs": EPOCHS, "batch_size": 64}, runtime={"device": "auto"})
    first = run.running("dense")
    run.waits_for(lambda: trained_epochs(project.root, DENSE), "a saved epoch")
    [training] = working_on("dense", first)
    training.suspend()  # SLURM looks at its jobs twice a minute: a fast machine would be done by then
    # From now on less time is left than that before which the job wants to be told.
    slurm.ask("scontrol", "update", f"JobId={first.number}", f"TimeLimit={first.minutes_so_far() + 14}")
    run.waits_for(lambda: is_told(training, signal.SIGTERM), "SLURM's signal")
    with contextlib.suppress(psutil.NoSuchProcess):
        training.resume()
    run.finish()

    told, again = run.jobs("dense")
    assert (told.state, again.state) == ("FAILED", "COMPLETED"), "it did not run into its limit"
    assert (first.fields["TimeLimit"], again.fields["TimeLimit"]) == ("1-00:00:00", "2-00:00:00"), "asked for more time"
    log = (project.root / f".snakemake/slurm_logs/rule_dense/resnet8_0/{told.number}.log").read_text()
    assert "returned non-zero exit status 14" in log, "the training itself ended its job"
    history = pd.read_csv(project.root / "results/tiny" / DENSE / "history.csv")
    assert list(history["epoch"]) == list(range(1, EPOCHS + 1))

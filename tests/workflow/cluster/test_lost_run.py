"""The process that submits is killed, and `oba recover` goes on with its run."""

from __future__ import annotations

import psutil
import pytest
from submitted import trained_epochs

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
DENSE = "resnet8/seed0/dense"
LONG = {"dense": {"epochs": 60, "batch_size": 64}, "runtime": {"device": "auto"}}


def snakemakes_in(folder) -> list[int]:
    """Return the processes of Snakemake that work in a folder."""
    found = psutil.process_iter(["pid", "cmdline", "cwd"])
    return [p.info["pid"] for p in found if "snakemake" in (p.info["cmdline"] or []) and p.info["cwd"] == str(folder)]


def test_a_lost_run_is_recovered_by_cancelling_and_by_waiting_for_its_jobs(submit, project):
    run = submit("--until", "dense", **LONG)
    first = run.running("dense")
    run.waits_for(lambda: trained_epochs(project.root, DENSE), "a saved epoch")
    refused = project.oba("recover", check=False)
    assert (refused.returncode, "the run is alive, or may be" in refused.stderr) == (15, True)
    run.kill()
    refused = project.oba("run", "tiny.yaml", check=False)
    assert (refused.returncode, "1 job of an earlier run is still in SLURM's queue" in refused.stderr) == (15, True)
    assert snakemakes_in(project.root), "the job's own, on this node"
    assert "freed the lock" in project.oba("unlock").stdout, "for which they are not taken"

    run.recover("--cancel")
    second = run.running("dense", known=[first])
    states = {job.number: job.state for job in run.jobs("dense")}
    assert states[first.number] in {"CANCELLED", "FAILED", "COMPLETED"}, "over before the next one is submitted"
    assert f"cancelled 1 job: {first.number} " in run.said.read_text()
    run.kill()

    run.recover()
    run.waits_for(lambda: f"waiting for 1 job: {second.number} running" in run.said.read_text(), "it to wait")
    refused = project.oba("recover", check=False)
    assert (refused.returncode, "another `oba recover` is at work" in refused.stderr) == (15, True)
    run.waits_for(lambda: run.said.read_text().count("no job is left in SLURM's queue") == 2, "the job's end")
    record = project.root / "results/tiny" / DENSE / "run.json"
    finished = record.read_bytes(), record.with_name("model.safetensors").stat().st_ino
    run.finish()
    assert [job.number for job in run.jobs("dense")] == [first.number, second.number], (
        "what ended is not asked for again"
    )
    assert (record.read_bytes(), record.with_name("model.safetensors").stat().st_ino) == finished
    assert run.said.read_text().count("freed the lock of a run that is no longer alive") == 1

"""Jobs of several stages leave what jobs of single stages leave, and one kind may follow the other."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest

from oba.files import digest_file, read_json

NETS = ("resnet8/seed0/dense", *(f"resnet8/seed0/taylor-iterative/keep0.{k}0/finetuned" for k in (7, 4)))
TIMED = {"seconds", "latency"}
pytestmark = pytest.mark.slow


def left(project) -> dict[str, object]:
    """Return what the nets are and how well they do, without times."""
    nets = [project.root / "results/tiny" / net for net in NETS]
    weights = {str(net): digest_file(net / name) for net in nets for name in ("model.safetensors", "plan.json")}
    measured = {net: {**read_json(net / "metrics.json"), **read_json(net / "evaluation.json")} for net in nets}
    told = {net.name: {k: v for k, v in values.items() if k not in TIMED} for net, values in measured.items()}
    return {key.removeprefix(str(project.root)): value for key, value in weights.items()} | told


def test_levels_as_jobs_leave_the_same_nets(project, finished):
    project.write_study(job_per="level")
    done = project.snakemake()
    assert done.stderr.count("rule level:") == 2
    assert "rule prune:" not in done.stderr
    assert left(project) == left(finished)
    assert project.planned() == Counter()
    # A file that stands in no DAG is missed all the same, and made again by the job that left it.
    level = "resnet8/seed0/taylor-iterative/keep0.40/pruned"
    (project.root / "results/tiny" / level / "plan.json").unlink()
    shutil.rmtree(project.root / "results/tiny/.state" / level)
    assert project.planned() == Counter(level=1, collect=1, report=1, all=1)


def test_one_kind_of_job_takes_over_what_the_other_made(copied, tiny):
    root = copied.root / "results/tiny/resnet8/seed0"
    records = sorted(root.glob("**/*run.json"))
    before = {path: path.read_bytes() for path in records}
    copied.write_study(job_per="level")
    assert copied.planned() == Counter(dense=1, level=2, collect=1, report=1, all=1)
    copied.snakemake()
    assert {path: path.read_bytes() for path in records} == before, "no stage has run again"
    # Snakemake knows nothing of what the stages of a job left, and would take it as it is.
    copied.write_study(finetune=tiny["finetune"] | {"epochs": 2})
    planned = copied.planned()
    assert (planned["prune"], planned["finetune"], planned["dense"]) == (2, 2, 1)
    copied.snakemake()
    again = {path for path in records if path.read_bytes() != before[path]}
    assert root / "dense/run.json" not in again
    assert root / "taylor-iterative/keep0.70/pruned/run.json" not in again
    assert root / "taylor-iterative/keep0.70/finetuned/run.json" in again
    assert read_json(root / "taylor-iterative/keep0.40/finetuned/metrics.json")["total_epochs"] == 6
    assert copied.planned() == Counter()


def test_a_failed_stage_of_a_level_is_told_by_its_job(project):
    project.write_study(job_per="level", finetune={"epochs": 1, "lr": 1e30, "batch_size": 256})
    done = project.snakemake(check=False)
    assert done.returncode != 0
    [failed] = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert "failed: finetune taylor iterative keep0.70 resnet8 seed0: " in failed
    assert "the loss is" in failed
    log = failed.rsplit("(log: ", 1)[1].removesuffix(")")
    assert "error: " in (project.root / log).read_text()

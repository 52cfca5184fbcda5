"""A stage that is killed goes on, and ends with the same bytes as one that was not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from oba.files import digest_file

COORDINATES = ["--model", "resnet8", "--seed", "0"]
LEVEL = [*COORDINATES, "--method", "taylor", "--schedule", "iterative", "--keep", "0.70"]
NET = "results/tiny/resnet8/seed0"
CHAIN = f"{NET}/taylor-iterative/keep0.70"
STAGES = {
    "prepare": ([], ["results/tiny/data/images.npy", "results/tiny/data/data.json"]),
    "split": (["--seed", "0"], ["results/tiny/data/split-seed0.json", "results/tiny/data/split-seed0.npy"]),
    "trace": (["--model", "resnet8"], ["results/tiny/resnet8/structures.json"]),
    "dense": (COORDINATES, [f"{NET}/dense/model.safetensors"]),
    "prune": (LEVEL, [f"{CHAIN}/pruned/model.safetensors", f"{CHAIN}/pruned/plan.json"]),
    "finetune": (LEVEL, [f"{CHAIN}/finetuned/model.safetensors"]),
    "scratch": (LEVEL, [f"{CHAIN}/scratch/model.safetensors"]),
    "evaluate": ([*LEVEL, "--variant", "finetuned"], [f"{CHAIN}/finetuned/evaluation-run.json"]),
}
DENSE = {"epochs": 12, "batch_size": 64}
TRAINING = {"dense", "finetune", "scratch"}


def state_of(project, stage: str, outputs: list[str]) -> Path:
    """Return the folder in which a stage holds its lock."""
    record = {
        "prepare": "data/run",
        "split": "data/split-seed0-run",
        "trace": "resnet8/structures-run",
        "evaluate": "resnet8/seed0/taylor-iterative/keep0.70/finetuned/evaluation-run",
    }.get(stage, str(Path(outputs[0]).parent.relative_to("results/tiny") / "run"))
    return project.root / "results/tiny/.state" / record


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_goes_on(copied, stage):
    options, outputs = STAGES[stage]
    command = [sys.executable, "-m", "oba", stage, "--study", "results/tiny/study.json", *options]
    if stage == "scratch":  # a control that the tiny study does not ask for
        copied.run(command, check=True)
    expected = {name: digest_file(copied.root / name) for name in outputs if not name.endswith("-run.json")}
    for name in outputs:
        path = copied.root / name
        for sibling in [path, *path.parent.glob("run.json"), *path.parent.glob(f"{path.stem}*-run.json")]:
            sibling.unlink(missing_ok=True)
    state = state_of(copied, stage, outputs)
    shutil.rmtree(state)  # which holds the finished work, too
    lock = state / ".lock"
    log = copied.root / "killed.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=copied.root, env=copied.environment, stdout=stream, stderr=stream)
    while process.poll() is None:
        if any(p.is_file() for p in state.glob("*/*")) if stage in TRAINING else lock.exists():
            break
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, log.read_text()
    assert not all((copied.root / name).exists() for name in outputs)
    half_made = [name for name in outputs if name.endswith("model.safetensors") and (copied.root / name).exists()]
    assert not half_made
    copied.run(command, check=True)
    assert {name: digest_file(copied.root / name) for name in expected} == expected
    assert all((copied.root / name).exists() for name in outputs)
    [kept] = [p.name for p in state.iterdir() if p.name != ".lock"]
    assert kept.endswith("-finished"), "resumable state is removed on success"


@pytest.mark.slow
def test_a_killed_run_is_unlocked_and_finished(copied, finished):
    for name in (NET, "results/tiny/.state", "results/tiny/report"):
        shutil.rmtree(copied.root / name)
    process = subprocess.Popen(
        copied.command("--quiet", "all"), cwd=copied.root, env=copied.environment, start_new_session=True
    )
    started = copied.root / "results/tiny/.state/resnet8/seed0/dense/run/.lock"
    while not started.exists() and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None
    blocked = copied.oba("unlock", check=False)
    assert blocked.returncode == 11
    assert f"locked by a running snakemake (process {process.pid})" in blocked.stderr
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert "freed the lock" in copied.oba("unlock").stdout
    weights = [f"{NET}/dense/model.safetensors", f"{CHAIN}/finetuned/model.safetensors"]
    copied.snakemake(*weights)
    for name in weights:
        assert digest_file(copied.root / name) == digest_file(finished.root / name)


@pytest.mark.slow
def test_work_that_an_orphan_finished_is_found_again(project):
    project.write_study(dense=DENSE)
    command = project.command("--quiet", "all", "--until", "dense")
    process = subprocess.Popen(command, cwd=project.root, env=project.environment, start_new_session=True)
    state = project.root / "results/tiny/.state/resnet8/seed0/dense/run"
    while not list(state.glob("*/epoch-*.json")) and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    record = project.root / NET / "dense/run.json"
    deadline = time.monotonic() + 120
    while not (record.exists() and not list(state.glob("*/epoch-*.json"))):
        assert time.monotonic() < deadline, "the orphan goes on and finishes"
        time.sleep(0.1)
    finished = record.read_bytes(), digest_file(record.parent / "model.safetensors")
    project.oba("unlock")
    done = project.snakemake("--until", "dense")
    assert "rule dense" in done.stderr, "Snakemake starts the job again, because it did not see it end"
    assert (record.read_bytes(), digest_file(record.parent / "model.safetensors")) == finished
    assert project.planned("--until", "dense") == Counter()

"""Jobs of two ranks by the command line: what they leave, and what is left of them when something is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from rank_runs import ROOT
from safetensors.torch import load_file

from oba.files import digest_file

STUDY = {
    "experiment": "tiny",
    "data": {"name": "digits"},
    "calibration": {"images": 300, "batch_size": 64},
    "models": ["resnet8"],
    "seeds": [0],
    "methods": ["kron-obs"],
    "keep": [0.5],
    "dense": {"epochs": 2, "batch_size": 256},
    "finetune": {"epochs": 1, "batch_size": 256, "lr": 0.01},
    "method_defaults": {"keep_scores": True, "rounds": 1, "update": "least-squares"},
    "evaluation": {"latency_runs": 3},
    "runtime": {"device": "cpu"},
}
AT = ["--model", "resnet8", "--seed", "0"]
LEVEL = [*AT, "--method", "kron-obs", "--schedule", "iterative", "--keep", "0.50"]
JOB = "prune kron-obs iterative keep0.50 resnet8 seed0"
PRUNED = "results/tiny/resnet8/seed0/kron-obs-iterative/keep0.50/pruned"

pytestmark = pytest.mark.slow


@dataclass
class Desk:
    """A folder in which jobs run."""

    root: Path

    def study(self, **changes) -> None:
        (self.root / "study.yaml").write_text(yaml.safe_dump(STUDY | changes))

    def start(self, stage: str, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "oba", stage, "--study", "study.yaml", *options],
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, stage: str, *options: str) -> str:
        """Run a job that succeeds; return what it says."""
        process = self.start(stage, *options)
        said = "".join(process.communicate(timeout=300))
        assert process.returncode == 0, said
        return said

    def path(self, name: str) -> Path:
        return self.root / name


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Desk:
    desk = Desk(tmp_path_factory.mktemp("trained"))
    desk.study()
    desk.run("prepare")
    desk.run("split", "--seed", "0")
    desk.run("trace", "--model", "resnet8")
    desk.run("dense", *AT)
    return desk


@pytest.fixture
def desk(trained, tmp_path) -> Desk:
    shutil.copytree(trained.root, tmp_path / "desk")
    return Desk(tmp_path / "desk")


def ranks_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Wait until both ranks of a job are there and have imported what they need; return them in order."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(psutil.Error, ProcessLookupError):  # a child that has just ended
            children = [p for p in psutil.Process(process.pid).children() if "RANK" in p.environ()]
            if len(children) == 2 and all(len(p.net_connections("tcp")) >= 2 for p in children):
                return sorted(children, key=lambda p: p.environ()["RANK"])
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("the ranks did not begin")


def wait_for_epoch(desk: Desk, process: subprocess.Popen[str]) -> None:
    """Wait until the second epoch of a dense training is saved."""
    state = desk.path("results/tiny/.state/resnet8/seed0/dense")
    deadline = time.monotonic() + 120
    while not list(state.rglob("epoch-0002.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def assert_same_training(desk: Desk, whole: Desk) -> None:
    """Compare dense trainings, but for their time."""
    for name in ("model.safetensors", "plan.json", "metrics.json"):
        found, expected = (each.path(f"results/tiny/resnet8/seed0/dense/{name}") for each in (desk, whole))
        if name == "metrics.json":
            found, expected = (json.loads(p.read_text()) | {"seconds": 0} for p in (found, expected))
            assert found == expected
        else:
            assert digest_file(found) == digest_file(expected)


def test_two_ranks_leave_what_one_leaves(desk):
    one = Desk(desk.root.parent / "one")
    shutil.copytree(desk.root, one.root)
    desk.study(gpus={"prune": 2, "evaluate": 2})
    for each in (one, desk):
        each.run("prune", *LEVEL)
        each.run("evaluate", *AT, "--variant", "dense")
    assert sorted(p.name for p in desk.path(PRUNED).iterdir()) == sorted(p.name for p in one.path(PRUNED).iterdir())
    for name, tolerance in (("scores", 1e-6), ("model", 1e-4)):
        found, expected = (load_file(each.path(f"{PRUNED}/{name}.safetensors")) for each in (desk, one))
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, rtol=tolerance, atol=tolerance * float(tensor.abs().max()))
    dense = "results/tiny/resnet8/seed0/dense"
    found, expected = (json.loads(each.path(f"{dense}/evaluation.json").read_text()) for each in (desk, one))
    assert found["test"] == pytest.approx(expected["test"], rel=1e-6)
    assert sum(found["class_images"]) == sum(expected["class_images"]) == expected["test"]["images"]
    right = found["test"]["images"] - sum(count for *_, count in found["confusions"])
    assert sum(found["class_correct"]) == right == pytest.approx(found["test"]["top1"] * found["test"]["images"])
    assert json.loads(desk.path(f"{dense}/evaluation-run.json").read_text())["settings"]["gpus"] == 2
    journal = desk.path(f"results/tiny/journal/{PRUNED.removeprefix('results/tiny/')}/run.jsonl").read_text()
    assert [json.loads(line)["event"] for line in journal.splitlines()].count("end") == 1
    assert not list(desk.path("results/tiny/logs").rglob("*.rank*.log"))
    before = desk.path(f"{PRUNED}/run.json").stat().st_ino
    process = desk.start("prune", *LEVEL)
    process.communicate()
    assert desk.path(f"{PRUNED}/run.json").stat().st_ino == before, "finished work is not done again"


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_rank_ends_the_job_with_one_line_and_the_job_can_be_started_again(desk, killed):
    desk.study(gpus={"prune": 2})
    desk.run("prune", *LEVEL)
    expected = digest_file(desk.path(f"{PRUNED}/model.safetensors"))
    shutil.rmtree(desk.path(PRUNED).parent)
    shutil.rmtree(desk.path("results/tiny/.state/resnet8/seed0/kron-obs-iterative"))
    process = desk.start("prune", *LEVEL)
    ranks = ranks_of(process)
    ranks[killed].kill()
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (13, "")
    assert said.startswith(f"error: {JOB}: rank {killed} of 2 was killed by signal 9 (SIGKILL")
    assert said.count("\n") == 1
    assert not any(rank.is_running() for rank in ranks)
    desk.run("prune", *LEVEL)
    assert digest_file(desk.path(f"{PRUNED}/model.safetensors")) == expected


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_ranks_do_not_outlive_the_process_that_started_them(desk, number):
    desk.study(gpus={"prune": 2})
    process = desk.start("prune", *LEVEL)
    ranks = ranks_of(process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    stops = number == signal.SIGTERM
    assert process.returncode == (14 if stops else -number)
    told = f"error: {JOB}: stopped by SIGTERM; the same command goes on from what was saved\n"
    assert said == (told if stops else "")
    _, alive = psutil.wait_procs(ranks, timeout=10)
    assert not alive
    desk.run("prune", *LEVEL)


def test_an_error_of_all_ranks_is_one_line(desk):
    desk.study(gpus={"prune": 2}, keep=[0.01])
    process = desk.start("prune", *LEVEL[:-1], "0.01")
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (6, "")
    assert said.startswith("error: prune kron-obs iterative keep0.01 resnet8 seed0: keep=0.01 cannot be reached")
    assert said.count("\n") == 1


def test_a_training_of_which_a_rank_is_killed_goes_on_and_ends_with_the_same_bits(desk):
    desk.study(gpus={"dense": 2, "finetune": 2}, dense={"epochs": 8, "batch_size": 64})
    whole = Desk(desk.root.parent / "whole")
    shutil.copytree(desk.root, whole.root)
    whole.run("dense", *AT)
    process = desk.start("dense", *AT)
    ranks = ranks_of(process)
    wait_for_epoch(desk, process)
    ranks[1].kill()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 13
    last = said.splitlines()[-1]
    assert last.startswith("error: dense resnet8 seed0: rank 1 of 2 was killed by signal 9 (SIGKILL")
    assert last.endswith("start the job again: it goes on from what was saved")
    resumed = desk.run("dense", *AT)
    assert "epoch 1/8" not in resumed
    assert resumed.count("epoch 8/8") == 1
    assert not list(desk.path("results/tiny/logs").rglob("*.rank*.log")), "one rank tells the progress"
    assert_same_training(desk, whole)
    for stage, options in (
        ("evaluate", [*AT, "--variant", "dense"]),
        ("prune", LEVEL),
        ("finetune", LEVEL),
        ("evaluate", [*LEVEL, "--variant", "finetuned"]),
    ):
        desk.run(stage, *options)
    finetuned = json.loads(desk.path(PRUNED).parent.joinpath("finetuned/run.json").read_text())
    assert finetuned["settings"]["gpus"] == 2


@pytest.mark.parametrize(("gpus", "number", "everywhere"), [(1, 15, False), (2, 10, False), (2, 15, True)])
def test_a_training_that_a_scheduler_stops_saves_and_ends_with_the_same_bits(desk, gpus, number, everywhere):
    desk.study(gpus={"dense": gpus}, dense={"epochs": 12, "batch_size": 32})
    whole = Desk(desk.root.parent / "whole")
    shutil.copytree(desk.root, whole.root)
    whole.run("dense", *AT)
    process = desk.start("dense", *AT)
    wait_for_epoch(desk, process)
    for each in psutil.Process(process.pid).children(recursive=True) if everywhere else ():
        each.send_signal(number)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 14, said
    last = said.splitlines()[-1]
    assert last.startswith(f"error: dense resnet8 seed0: stopped by {signal.Signals(number).name}, saved at ")
    assert last.endswith("; the same command goes on from there")
    journal = desk.path("results/tiny/journal/resnet8/seed0/dense/run.jsonl")
    ends = [
        event["status"] for line in journal.read_text().splitlines() if (event := json.loads(line))["event"] == "end"
    ]
    assert ends == ["FINISHED", "KILLED"], "the fixture's training, and this one"
    resumed = desk.run("dense", *AT)
    assert "dense resnet8 seed0  resumed a" in resumed
    assert "epoch  1/12" not in resumed
    assert_same_training(desk, whole)

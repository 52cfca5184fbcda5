"""A job that outlived its run never replaces newer work by older."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from oba.errors import ConfigError
from oba.files import read_json, write_json
from oba.layout import Coordinates
from oba.made import write_run
from oba.stages import job
from oba.stages.job import execute
from oba.study import dump_study, parse_study

ORPHAN = """
import sys
from oba.stages import job

locked = job.locked

def wait(*arguments, **options):
    print("has read the study", flush=True)
    sys.stdin.readline()
    return locked(*arguments, **options)

job.locked = wait
from oba.cli import main
main()
"""
SPLIT = ["split", "--study", "results/tiny/study.json", "--seed", "0"]
RECORD = Path("results/tiny/data/split-seed0-run.json")


def start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


def start_orphan(*options: str) -> subprocess.Popen[str]:
    """Start a job, and wait until it has read the study and stands before its lock."""
    process = start("-c", ORPHAN, *options)
    assert process.stdout is not None
    assert process.stdout.readline() == "has read the study\n", process.communicate()
    return process


def change(bench, **sections):
    """Let a newer run begin: it writes its study."""
    values = dump_study(bench.study) | sections
    write_json(bench.layout.study, dump_study(parse_study(values, "study")))


@pytest.mark.slow
def test_a_job_that_waited_leaves_the_work_of_newer_settings(bench):
    orphan = start_orphan(*SPLIT)
    change(bench, splits={"val": 0.4, "test": 0.2})
    newer = start("-m", "oba", *SPLIT)
    _, said = newer.communicate(timeout=300)
    assert newer.returncode == 0, said
    made = bench.contents("split")
    assert read_json(RECORD)["settings"]["splits"]["val"] == 0.4
    _, said = orphan.communicate("\n", timeout=300)
    assert (orphan.returncode, said) == (0, "")
    assert bench.contents("split") == made
    change(bench)


@pytest.mark.slow
def test_a_job_that_is_first_does_what_is_wanted_now(bench):
    orphan = start_orphan(*SPLIT)
    change(bench, splits={"val": 0.4, "test": 0.2})
    _, said = orphan.communicate("\n", timeout=300)
    assert (orphan.returncode, said) == (0, "")
    assert read_json(RECORD)["settings"]["splits"]["val"] == 0.4


@pytest.mark.slow
def test_a_job_that_is_no_longer_wanted_says_so_and_leaves_everything(bench):
    made = bench.contents("dense")
    orphan = start_orphan("dense", *SPLIT[1:3], "--model", "resnet8", "--seed", "0")
    change(bench, models=["resnet14"])
    _, said = orphan.communicate("\n", timeout=300)
    why = "--model: got 'resnet8'; allowed: resnet14"
    assert (orphan.returncode, said) == (3, f"error: dense resnet8 seed0: {why}\n")
    assert bench.contents("dense") == made


def test_ranks_of_another_study_than_their_starters_are_found_out(bench, monkeypatch):
    def launch(*_, **__):
        write_run(bench.layout.level(at) / "pruned/run.json", {"settings": {}, "inputs": {}, "key": "another"}, [])

    at = Coordinates("resnet8", 0, "magnitude", "iterative", "0.50")
    monkeypatch.setattr(job, "launch", launch)
    study = parse_study(dump_study(bench.study) | {"gpus": {"prune": 2}}, "study")
    with pytest.raises(ConfigError, match=r"^study\.yaml: changed while the job's ranks started; run again$"):
        execute("prune", study, at, source=Path("study.yaml"))

"""One failing chain: what finished is reported, the gap says why, and mending it runs only what is missing."""

from __future__ import annotations

import csv
import re
from collections import Counter

import pytest
import yaml

STUDY = {
    "experiment": "gaps",
    "data": {"name": "digits"},
    "calibration": {"images": 64},
    "models": ["resnet8"],
    "seeds": [0],
    "methods": ["magnitude", "random"],
    "method_defaults": {"rounds": 1},
    "keep": [0.7, 0.4],
    "dense": {"epochs": 1, "batch_size": 256},
    "finetune": {"epochs": 1, "batch_size": 256, "lr": 0.01},
    "evaluation": {"latency_runs": 3},
    "runtime": {"device": "cpu"},
}
BROKEN = '\nfrom oba.errors import ScoreError\n\ndef broken(*_):\n    raise ScoreError("broken on purpose")\n'
BROKEN += "\nRandom.batch_scores = broken\n"
LOG = "results/gaps/logs/resnet8/seed0/random-iterative/keep0.70/pruned/run.log"


@pytest.mark.slow
def test_a_broken_chain_leaves_a_gap_with_a_reason_and_is_mended_alone(project):
    (project.root / "tiny.yaml").write_text(yaml.safe_dump(STUDY))
    criterion = project.root / "oba/importance/criteria/random.py"
    report = project.root / "results/gaps/report"
    sound = criterion.read_text()
    criterion.write_text(sound + BROKEN)

    done = project.snakemake(check=False)
    assert done.returncode != 0
    with (report / "runs.csv").open() as stream:
        rows = {(row["method"], row["keep"]): row for row in csv.DictReader(stream)}
    assert {net: row["missing"] for net, row in rows.items()} == {
        ("dense", "1.0"): "",
        ("magnitude", "0.7"): "",
        ("magnitude", "0.4"): "",
        ("random", "0.7"): "prune failed: broken on purpose",
        ("random", "0.4"): "not run: prune (keep 0.70) failed: broken on purpose",
    }
    assert [bool(row["test_top1"]) for row in rows.values()] == [True, True, True, False, False]
    assert "## Missing" in (report / "summary.md").read_text()
    assert (report / "tradeoff.png").exists()
    assert "Missing\n- resnet8 random iterative keep 0.70 (seed 0): prune failed: broken on purpose" in done.stdout
    job = "prune random iterative keep0.70 resnet8 seed0"
    told = f"failed: {job}: broken on purpose (log: {LOG})"
    last = [line for line in done.stderr.splitlines() if line.strip()][-6:]
    assert told in last, "the one clear line is among the last, not in the middle of all output"

    # Without the broken method nothing is missing, and nothing that is there is newer than the table.
    without = ["--config", "methods=[magnitude]", "--rerun-triggers", "mtime"]
    assert project.planned(*without) == Counter(collect=1, report=1, all=1)

    criterion.write_text(sound)
    assert project.planned() == Counter(prune=2, finetune=2, evaluate=2, collect=1, report=1, all=1)
    project.snakemake()
    assert "Missing" not in (report / "summary.md").read_text()
    with (report / "runs.csv").open() as stream:
        assert {row["missing"] for row in csv.DictReader(stream)} == {""}
    assert project.planned() == Counter()


@pytest.mark.slow
def test_without_a_dense_net_the_failure_is_told_and_nothing_is_reported(project):
    wild = {"epochs": 2, "batch_size": 256, "lr": 1e9}
    (project.root / "tiny.yaml").write_text(yaml.safe_dump(STUDY | {"dense": wild}))
    done = project.snakemake(check=False)
    assert done.returncode != 0
    assert not (project.root / "results/gaps/report").exists()
    assert "error: report: no dense net has been evaluated" in done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(r"failed: dense .*resnet8.*: the loss is \S+ at epoch 1, step", done.stderr)

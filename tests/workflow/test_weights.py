"""Single weights through the whole pipeline, beside a method that removes structures."""

from __future__ import annotations

import csv

import pytest
import torch
import yaml

import oba
from oba.files import read_json
from oba.pruning.replay import load_masked

STUDY = {
    "experiment": "masks",
    "data": {"name": "digits"},
    "calibration": {"images": 64},
    "models": ["resnet8x0.5"],
    "seeds": [0],
    "methods": [
        "magnitude",
        {"name": "weights", "criterion": "taylor", "granularity": "weights", "descent": "exponential"},
    ],
    "method_defaults": {"rounds": 2, "keep_scores": True},
    "keep": [0.5, 0.2],
    "controls": ["scratch"],
    "structures": {"ignore": ["fc"]},
    "dense": {"epochs": 1, "batch_size": 256},
    "finetune": {"epochs": 1, "batch_size": 256, "lr": 0.01},
    "evaluation": {"latency_runs": 3},
    "runtime": {"device": "cpu"},
}


@pytest.mark.slow
def test_weights_stay_gone_from_stage_to_stage_and_are_reported(project):
    (project.root / "tiny.yaml").write_text(yaml.safe_dump(STUDY))
    project.snakemake()
    results = project.root / "results/masks"
    chain = results / "resnet8x0.5/seed0/weights-iterative"

    above = None
    for level in ("0.50", "0.20"):
        _, masks = load_masked(chain / f"keep{level}/pruned")
        total, kept = (sum(f(mask) for mask in masks.values()) for f in (torch.numel, torch.sum))
        assert int(kept) == int(float(level) * total + 1e-9)
        assert "fc.weight" not in masks
        for variant in ("finetuned", "scratch"):
            model, same = load_masked(chain / f"keep{level}/{variant}")
            assert all(torch.equal(same[name], mask) for name, mask in masks.items())
            assert not any(model.get_parameter(name)[~mask].any() for name, mask in masks.items())
            evaluation = read_json(chain / f"keep{level}/{variant}/evaluation.json")
            assert sum(evaluation["weights"]["kept"].values()) == int(kept)
            assert evaluation["macs_kept"] == 1
        if above is not None:
            assert not any((mask & ~above[name]).any() for name, mask in masks.items()), "masks compose"
        above = masks
    rounds = read_json(chain / "keep0.20/pruned/metrics.json")["rounds"]
    assert [r["keep"] for r in rounds] == pytest.approx([(0.5 * 0.2) ** 0.5, 0.2], rel=1e-3)
    assert oba.load_pruned(chain / "keep0.20/finetuned")(torch.zeros(1, 1, 8, 8)).isfinite().all()
    dense, small = (p.stat().st_size for p in (results / "resnet8x0.5/seed0/dense/model.safetensors",
                                               chain / "keep0.20/finetuned/model.safetensors"))  # fmt: skip
    assert small < 0.4 * dense

    with (results / "report/runs.csv").open() as stream:
        rows = {(row["method"], row["keep"], row["variant"]): row for row in csv.DictReader(stream)}
    assert float(rows["weights", "0.2", "finetuned"]["weights_kept"]) == pytest.approx(0.2, abs=1e-3)
    assert rows["magnitude", "0.2", "finetuned"]["weights_kept"] == ""
    page = (results / "report/summary.md").read_text()
    assert "## resnet8x0.5, structures" in page
    assert "## resnet8x0.5, weights" in page

    tags = project.store.tags()
    run = tags["masks/resnet8x0.5/seed0/weights-iterative/keep0.20/finetuned/evaluation-run"]["run"]
    [(_, density)] = project.store.history(run, "density/layer3.0.conv2.weight")
    evaluation = read_json(chain / "keep0.20/finetuned/evaluation.json")["weights"]
    assert density == pytest.approx(
        evaluation["kept"]["layer3.0.conv2.weight"] / evaluation["dense"]["layer3.0.conv2.weight"]
    )
    assert tags["masks/resnet8x0.5/seed0/weights-iterative"]["granularity"] == "weights"
    parent = tags["masks/resnet8x0.5/seed0/weights-iterative"]["run"]
    charted = dict(project.store.history(parent, "weights_kept"))
    assert charted == {0: 1, 50: pytest.approx(0.5, abs=1e-3), 80: pytest.approx(0.2, abs=1e-3)}

    (project.root / "tiny.yaml").write_text(yaml.safe_dump(STUDY | {"structures": {"ignore": ["fc", "conv1"]}}))
    assert project.planned()["prune"] >= 1, "what stays whole is a setting of methods that remove weights"

"""What the prune stage leaves of its scores, and what it says they took."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open

import oba
from oba.data.bundle import load_bundle
from oba.data.split_files import read_splits
from oba.datasets import AugmentConfig
from oba.files import read_json, read_tensors
from oba.importance import score_structures
from oba.structures import groups_from_json

LEVEL = "taylor-iterative/keep0.70/pruned"


@pytest.fixture
def net(finished):
    return finished.root / "results/tiny/resnet8/seed0"


def test_kept_scores_are_those_of_the_calibration_images(finished, net):
    results = finished.root / "results/tiny"
    groups = groups_from_json(read_json(results / "resnet8/structures.json"))
    splits = read_splits(results / "data/split-seed0.json")
    images = load_bundle(results / "data", splits, AugmentConfig(), torch.device("cpu"), calibration=64).calibration
    expected = score_structures(oba.load_pruned(net / "dense"), groups, images.batches(64), "taylor").alone
    kept = read_tensors(net / LEVEL / "scores.safetensors")
    assert {name.split("/", 1)[0] for name in kept} == {"round1", "round2"}
    for group in groups:
        torch.testing.assert_close(kept[f"round1/{group.name}"], expected[group.name], rtol=1e-5, atol=1e-9)
        assert len(kept[f"round2/{group.name}"]) <= len(group)
    assert sum(len(v) for k, v in kept.items() if k.startswith("round2/")) < sum(map(len, groups))


def test_kept_scores_say_where_they_come_from(net):
    with safe_open(net / LEVEL / "scores.safetensors", "pt") as file:
        about = json.loads(file.metadata()["about"])
    criterion = about.pop("criterion")
    assert about == {"method": "taylor", "model": "resnet8", "seed": 0, "keep": "0.70", "examples": 64}
    assert (criterion["name"], criterion["norm"]) == ("taylor", "eval")


def test_the_effort_is_logged(finished, net, store):
    run = store.tags()[f"tiny/resnet8/seed0/{LEVEL}/run"]["run"]
    effort = read_json(net / LEVEL / "metrics.json")["scoring"]
    assert set(effort) == {"scoring_seconds_per_batch", "scoring_gradients_per_batch", "peak_memory_bytes"}
    for name, value in effort.items():
        [(_, logged)] = store.history(run, f"system/{name}")
        assert logged == pytest.approx(value)
        assert value > 0
    assert effort["peak_memory_bytes"] > 1e8, "torch alone takes more"

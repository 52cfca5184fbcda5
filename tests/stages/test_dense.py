"""``dense`` starts from where the study says, and its record says from what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

from oba.files import read_json
from oba.layout import Coordinates
from oba.models import build_model
from oba.models.pretrained import describe_loaded
from oba.models.published import find_published
from oba.stages.job import execute
from oba.study import parse_study

Run = Callable[..., tuple[dict[str, torch.Tensor], dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path, study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that trains a dense net on digits, and returns its weights and its record."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    def run(model: str, **dense: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        given = {"normalization": "given", "mean": [0.449], "std": [0.226]}
        study_values["data"] = {"name": "digits", **(given if model.startswith("timm/") else {})}
        changes = {"models": [model], "dense": dense, "runtime": {"device": "cpu"}}
        study = parse_study(study_values | changes, "study")
        at = Coordinates(model=model.replace("/", "-"), seed=0)
        for stage, where in (("prepare", Coordinates()), ("split", Coordinates(seed=0)), ("dense", at)):
            execute(stage, study, where, source=Path("study.yaml"))
        net = Path("results/tiny") / at.model / "seed0/dense"
        return load_file(net / "model.safetensors"), read_json(net / "run.json")

    return run


def test_published_weights_are_in_the_record(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    snapshot = tmp_path / "hub/models--timm--resnet10t.c3_in1k/snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("0" * 40)
    library = timm.create_model("resnet10t")
    torch.save(library.state_dict(), snapshot / "pytorch_model.bin")
    weights, record = run("timm/resnet10t", **{"from": "pretrained", "epochs": 1, "lr": 1e-12, "replace_head": True})
    assert record["settings"]["dense"]["weights"] == "c3_in1k"
    torch.testing.assert_close(weights["conv1.3.weight"], library.state_dict()["conv1.3.weight"])
    assert len(weights["fc.weight"]) == 10
    published = find_published("timm/resnet10t", "c3_in1k")
    adapted = timm.create_model("resnet10t.c3_in1k", pretrained=True, in_chans=1, num_classes=10)
    assert record["weights"] == describe_loaded(published, adapted, True) | {
        "warnings": ["the weights 'c3_in1k' of 3 channels are adapted to images of 1"]
    }


def test_a_weight_file_may_lose_its_classifier(run: Run, tmp_path: Path) -> None:
    other = build_model("resnet8", num_classes=7, input_size=(1, 8, 8)).state_dict()
    torch.save({"model": {}, "model_ema": other, "epoch": 1}, tmp_path / "net.pt")
    source = {"from": str(tmp_path / "net.pt"), "weights": "model_ema", "replace_head": True}
    weights, record = run("resnet8", **source, epochs=1, lr=1e-12)
    torch.testing.assert_close(weights["layer3.0.conv1.weight"], other["layer3.0.conv1.weight"])
    assert len(weights["fc.weight"]) == 10
    assert "weights" not in record
    assert str(tmp_path / "net.pt") in record["inputs"]

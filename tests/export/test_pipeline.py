"""Nets as the pipeline's stages leave them: what their metadata and cards tell."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from oba.errors import FileError
from oba.export.card import model_card
from oba.export.export import export_pruned
from oba.export.metadata import Metadata
from oba.files import read_json, read_record
from oba.layout import Coordinates, Layout
from oba.stages.job import execute
from oba.study import parse_study

STUDY = {
    "experiment": "tiny",
    "data": {"name": "digits"},
    "calibration": {"images": 32},
    "models": ["resnet8x0.5"],
    "seeds": [0],
    "methods": [{"name": "small", "criterion": "magnitude", "allocation": "uniform", "update": "bias", "rounds": 2}],
    "keep": [0.5],
    "dense": {"epochs": 1, "batch_size": 512},
    "finetune": {"epochs": 1, "batch_size": 512},
    "evaluation": {"latency_runs": 3},
    "runtime": {"device": "cpu"},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Folders of a dense, a pruned and a fine-tuned net that the stages made."""
    study = parse_study(STUDY, "study")
    dense = Coordinates("resnet8x0.5", 0)
    level = Coordinates("resnet8x0.5", 0, "small", "iterative", "0.50")
    threads, project = torch.get_num_threads(), tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for command, at in [
            ("prepare", Coordinates()),
            ("split", Coordinates(seed=0)),
            ("trace", Coordinates("resnet8x0.5")),
            ("dense", dense),
            ("evaluate", Coordinates("resnet8x0.5", 0, variant="dense")),
            ("prune", level),
            ("finetune", level),
            ("evaluate", Coordinates("resnet8x0.5", 0, "small", "iterative", "0.50", "finetuned")),
        ]:
            execute(command, study, at, source=Path("study.yaml"))
    layout = Layout("tiny", project / "results")
    torch.set_num_threads(threads)
    return {"dense": layout.dense(dense), **{v: layout.level(level) / v for v in ("pruned", "finetuned")}}


def exported(folder, tmp_path) -> Metadata:
    export_pruned(folder, tmp_path / "out", "state-dict", latency_runs=0)
    return read_record(tmp_path / "out" / "metadata.json", Metadata)


def test_a_finetuned_net_tells_its_whole_history(results, tmp_path):
    metadata = exported(results["finetuned"], tmp_path)
    evaluation = read_json(results["finetuned"] / "evaluation.json")
    made = read_json(results["finetuned"] / "run.json")
    data = read_json(results["dense"].parents[2] / "data" / "data.json")
    assert metadata.test is not None
    assert metadata.test.model_dump() == evaluation["test"]
    assert metadata.val is not None
    assert metadata.val.model_dump() == read_json(results["finetuned"] / "metrics.json")["val"]
    assert (metadata.cost.model_dump(), metadata.macs_kept) == (evaluation["cost"], evaluation["macs_kept"])
    assert metadata.classes == [str(digit) for digit in range(10)]
    assert metadata.data is not None
    assert (metadata.data.name, metadata.data.digest) == ("digits", data["digest"])
    assert metadata.pruning is not None
    assert metadata.pruning.method["criterion"]["name"] == "magnitude"
    assert metadata.pruning.method["update"]["name"] == "bias"
    facts = (metadata.pruning.schedule, metadata.pruning.keep, metadata.pruning.rounds)
    assert (*facts, metadata.pruning.calibration_images) == ("iterative", 0.5, 2, 32)
    assert metadata.origin is not None
    assert (metadata.origin.stage, metadata.origin.epochs, metadata.origin.at) == ("finetune", 2, made["at"])
    assert metadata.origin.git.model_dump() == made["git"]
    assert made["host"] not in json.dumps(metadata.model_dump(), default=str).split('"')


def test_the_card_is_made_of_the_metadata(results, tmp_path):
    metadata = exported(results["finetuned"], tmp_path)
    text = (tmp_path / "out" / "README.md").read_text()
    assert text == model_card(metadata)
    _, front, body = text.split("---\n", 2)
    [model] = yaml.safe_load(front)["model-index"]
    [result] = model["results"]
    assert result["dataset"] == {"name": "digits", "type": "digits", "split": "test"}
    assert result["metrics"] == [{"type": "accuracy", "value": metadata.test.top1, "name": "top-1"}]
    assert yaml.safe_load(front)["tags"] == ["image-classification", "oba", "state-dict", "pruned"]
    title = f"# resnet8x0.5 pruned to {100 * metadata.macs_kept:.1f} % of its MACs by small"
    assert body.strip().splitlines()[0] == title
    heads = [line for line in body.splitlines() if line.startswith("## ")]
    assert heads == [
        f"## {head}" for head in ("Loading", "Accuracy", "Size and speed", "Pruning", "Classes", "Provenance")
    ]
    rows = dict(
        line.strip("| ").split(" | ", 1) for line in body.splitlines() if line.startswith("| ") and line.strip("| ")
    )
    assert rows["test"].split(" | ") == [
        str(metadata.test.images),
        f"{100 * metadata.test.top1:.2f}",
        f"{100 * metadata.test.top5:.2f}",
        f"{metadata.test.loss:.4f}",
    ]
    assert rows["MACs per image"].split(" | ")[:2] == [f"{metadata.cost.macs:,}", f"{metadata.dense_cost.macs:,}"]
    assert rows["allocation"] == "`uniform`"
    assert rows["keep"] == "0.5 of the dense network's MACs"
    assert rows["data"] == f"`digits`, digest `{metadata.data.digest}`"
    assert "latency" not in body
    assert "before any fine-tuning" not in body


def test_a_pruned_net_has_validation_only(results, tmp_path):
    metadata = exported(results["pruned"], tmp_path)
    assert metadata.test is None
    assert metadata.val is not None
    assert metadata.val.model_dump() == read_json(results["pruned"] / "metrics.json")["val"]
    assert metadata.pruning is not None
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Right after pruning, before any fine-tuning." in text
    assert "split: validation" in text.split("---\n")[1]


def test_a_dense_net_was_not_pruned(results, tmp_path):
    metadata = exported(results["dense"], tmp_path)
    assert (metadata.title, metadata.macs_kept, metadata.pruning) == ("resnet8x0.5", 1.0, None)
    assert metadata.test is not None
    assert metadata.data is not None
    text = (tmp_path / "out" / "README.md").read_text()
    assert "## Pruning" not in text
    assert "- pruned" not in text.split("---\n")[1]


def test_a_net_that_was_copied_elsewhere_keeps_what_lies_in_its_folder(results, tmp_path):
    shutil.copytree(results["finetuned"], tmp_path / "net")
    metadata = exported(tmp_path / "net", tmp_path)
    assert metadata.test is not None
    assert metadata.origin is not None
    assert (metadata.pruning, metadata.data) == (None, None)


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "evaluation.json"])
def test_a_damaged_record_is_named(name, results, tmp_path):
    shutil.copytree(results["finetuned"], tmp_path / "net")
    (tmp_path / "net" / name).write_text("{}")
    with pytest.raises(FileError, match=f"net/{name}: .* is missing; the file is damaged or of another version"):
        exported(tmp_path / "net", tmp_path)
    assert not (tmp_path / "out").exists()

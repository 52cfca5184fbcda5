"""What people read in MLflow: names, descriptions, parameters of chains, and no password."""

from __future__ import annotations

import base64
import json
import zlib

import pytest

from oba.config import TrackedModels
from oba.layout import Coordinates
from oba.report import style
from oba.stages.descriptions import NOTE, describe_stage, experiment_tags, short_name
from oba.stages.identities import chain_identity
from oba.stages.showing import report_net
from oba.tracking.limits import TAG_LENGTH

CHAIN = Coordinates("resnet8", 0, "taylor", "iterative")


@pytest.mark.parametrize(
    ("command", "at", "name"),
    [
        ("prepare", Coordinates(), "prepare"),
        ("split", Coordinates(seed=1), "split seed1"),
        ("dense", Coordinates("resnet8", 1, variant="dense"), "dense seed1 resnet8"),
        ("evaluate", Coordinates("resnet8", 1, variant="dense"), "dense evaluate seed1 resnet8"),
        ("", CHAIN, "taylor seed0 resnet8"),
        ("", Coordinates("resnet8", 0, "taylor", "oneshot"), "taylor oneshot seed0 resnet8"),
        ("prune", Coordinates("resnet8", 0, "taylor", "iterative", "0.30"), "taylor keep0.30 prune seed0 resnet8"),
        (
            "evaluate",
            Coordinates("resnet8", 0, "taylor", "iterative", "0.30", "scratch"),
            "taylor keep0.30 evaluate scratch seed0 resnet8",
        ),
        (
            "scratch",
            Coordinates("resnet8", 0, "taylor", "iterative", "0.30", "scratch"),
            "taylor keep0.30 scratch seed0 resnet8",
        ),
    ],
)
def test_the_most_telling_comes_first(command, at, name):
    assert short_name(command, at) == name


def test_chains_have_what_they_are_compared_by(study):
    methods = ["magnitude", {"name": "m", "criterion": {"name": "oba", "norm": "train"}, "allocation": "uniform"}]
    sweep = study(methods=methods, controls=["dense-longer"])
    chains = [Coordinates("resnet8", 0, name, "iterative") for name in ("magnitude", "m", "dense-longer")]
    first, second, control = (chain_identity(sweep, chain) for chain in chains)
    wanted = {"criterion": "oba", "criterion.norm": "train", "allocation": "uniform", "update": "norm", "method": "m"}
    assert (wanted | {"model": "resnet8", "seed": "0", "finetune.epochs": "1"}).items() <= second.params.items()
    assert {"threads", "gpus", "runtime.device"}.isdisjoint(second.params)
    assert [chain.tags["order"] for chain in (first, second, control)] == ["000", "001", "002"]
    assert "criterion" not in control.params
    assert control.params["finetune.epochs"] == "1"


def test_methods_have_the_reports_colours(study):
    sweep = study(methods=["magnitude", "taylor"], controls=["dense-longer"])
    styles = style.line_styles(["magnitude", "taylor"])
    for name in ("magnitude", "taylor"):
        tags = chain_identity(sweep, Coordinates("resnet8", 0, name, "iterative")).tags
        assert tags["mlflow.runColor"] == styles[name].color
    assert "mlflow.runColor" not in chain_identity(sweep, Coordinates("resnet8", 0, "dense-longer", "iterative")).tags


def test_experiment_says_what_is_compared_and_has_a_view_of_it(study):
    tags = experiment_tags(study(methods=["magnitude", {"name": "m", "criterion": "oba"}]))
    first, *rest = tags[NOTE].splitlines()
    assert first.startswith(
        "[Accuracy against MACs removed, one line for each method](#/experiments/{experiment}/runs?"
    )
    assert "***" not in first
    assert any(line.startswith("- `m`: oba") and "× global" in line for line in rest)
    (view,) = (json.loads(value) for key, value in tags.items() if key.startswith("mlflow.sharedViewState."))
    state = json.loads(zlib.decompress(base64.b64decode(view["state"].removeprefix("deflate;"))))
    assert state["compareRunCharts"][0]["metricKey"] == "test_top1"
    assert (state["runsHiddenMode"], state["orderByKey"], state["orderByAsc"]) == ("SHOWALL", "tags.`order`", True)
    assert all(len(value) < TAG_LENGTH for value in tags.values())


def test_description_of_a_stage_loads_its_net(study, tmp_path):
    at = Coordinates("resnet8", 0, "taylor", "iterative", "0.30", "finetuned")
    text = describe_stage(study(), "finetune", at, tmp_path / "net" / "run.json")
    assert f"Files: `{tmp_path}/net/`" in text
    assert f'oba.load_pruned("{tmp_path}/net")' in text
    assert "30% kept" in text
    assert "load_pruned" not in describe_stage(study(), "split", Coordinates(seed=0), tmp_path / "run.json")


def test_no_password_is_shown(study):
    sweep = study(data={"name": "imagefolder", "root": "https://me:s3cret@host/images", "image_size": 32})
    chain = chain_identity(sweep, CHAIN)
    assert chain.params["data.root"] == "https://host/images"
    assert "s3cret" not in json.dumps([chain.to_json(), experiment_tags(sweep)])


class Heard:
    """A run that remembers what it was told."""

    def metrics(self, values):
        self.measured = values

    def model(self, name, net, params):
        self.name, self.net, self.params = name, net, params


@pytest.mark.parametrize(("limit", "uploaded"), [(1, ["model.safetensors", "plan.json"]), (0.0009, []), (0, [])])
def test_only_small_weights_are_uploaded(tmp_path, limit, uploaded):
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    card = {"input_size": [1, 8, 8], "num_classes": 10}
    (tmp_path / "plan.json").write_text(json.dumps({"card": card}))
    accuracy = {"loss": 0.5, "top1": 0.9, "top5": None, "images": 10}
    timing = dict.fromkeys(("median_ms", "dense_median_ms", "speedup", "speedup_low", "speedup_high"), 1.0)
    timing |= {"batch": 1, "runs": 3, "deterministic": True, "cudnn_benchmark": False}
    measured = {"test": accuracy, "cost": {"macs": 7, "parameters": 8, "bytes": 9}, "macs_kept": 0.5}
    measured |= {"parameters_kept": 0.5, "latency": timing, "device": "cpu", "threads": 1}
    (tmp_path / "evaluation.json").write_text(json.dumps(measured))
    heard, at = Heard(), Coordinates("resnet8", 0, "taylor", "iterative", "0.05", "finetuned")
    report_net(heard, tmp_path, at, TrackedModels(max_mb=limit), {"criterion": "taylor"})
    assert heard.measured == {"macs": 7, "parameters": 8}
    assert (heard.name, list(heard.net.uploaded)) == ("taylor keep05 seed0 resnet8", uploaded)
    assert {"criterion": "taylor", "keep": "0.05", "macs": 7, "input_size": "1x8x8"}.items() <= heard.params.items()

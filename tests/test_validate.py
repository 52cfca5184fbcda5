"""What a study file already decides is told before the first job, all at once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from oba import devices
from oba.cli import app
from oba.config import Study
from oba.errors import BudgetError, ConfigError, DataError, ModelError, ObaError, ScoreError
from oba.slurm import gpus_per_node
from oba.study import dump_study
from oba.validate import quick_check, validate

ROOT = Path(__file__).parents[1]


def test_nothing_is_wrong_with_a_study_that_works(study: Callable[..., Study]) -> None:
    quick_check(study())


def test_the_quick_check_imports_no_torch(study: Callable[..., Study], tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(json.dumps(dump_study(study())))
    code = """
import sys
from pathlib import Path
from oba.study import load_resolved
from oba.validate import quick_check
quick_check(load_resolved(Path(sys.argv[1])))
assert not {"torch", "timm", "torchvision", "pandas"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "study.json")], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"calibration": {"images": 1295}},
            ConfigError,
            "calibration.images: got 1295, but the training split has 1294 images; allowed: 1 to 1294",
        ),
        ({"data": {"name": "imagefolder"}}, ConfigError, "data.root: imagefolder needs the folder of the images"),
        ({"data": {"name": "imagefolder", "root": "no"}}, DataError, "data.root: no is not a folder"),
        ({"splits": {"val": 0.999}}, ConfigError, "splits.val: "),
        (
            {"dense": {"from": "pretrained", "epochs": 0}},
            ConfigError,
            "models.resnet8: dense.from: 'pretrained', but nobody publishes weights for this net; allowed: 'train'",
        ),
        (
            {"models": ["timm/coatnet_0_224"], "dense": {"from": "pretrained", "epochs": 0}},
            ConfigError,
            "models.timm/coatnet_0_224: dense.from: 'pretrained', but nobody publishes weights",
        ),
        (
            {"dense": {"from": "none.pt", "epochs": 0}},
            ModelError,
            "models.resnet8: dense.from: none.pt: no such weight file; allowed: 'train', 'pretrained' or a file",
        ),
        (
            {"dense": {"from": "tests", "epochs": 0}},
            ModelError,
            "models.resnet8: dense.from: tests: is a folder; allowed: 'train', 'pretrained' or a file",
        ),
        (
            {"models": ["timm/resnet10t"], "dense": {"from": "pretrained", "weights": "a1", "epochs": 1}},
            ConfigError,
            "models.timm/resnet10t: dense.weights: timm publishes no 'a1' for resnet10t; allowed: c3_in1k",
        ),
        (
            {"models": ["torchvision/resnet18"], "dense": {"from": "pretrained", "epochs": 1}},
            ConfigError,
            "models.torchvision/resnet18: dense.replace_head: the weights 'IMAGENET1K_V1' have 1000 classes, but the "
            "data set has 10; allowed: true",
        ),
    ],
)
def test_what_needs_no_net_is_found_quickly(
    study: Callable[..., Study], changes: dict[str, Any], kind: type[ObaError], message: str
) -> None:
    with pytest.raises(ObaError) as caught:
        quick_check(study(**changes))
    assert type(caught.value) is kind
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1


def test_all_mistakes_are_told_at_once_with_the_kind_of_the_first(study: Callable[..., Study]) -> None:
    wrong = study(
        data={"name": "imagefolder", "root": "no"},
        models=[{"name": "resnet20", "dense": {"from": "pretrained"}}, {"name": "resnet8", "dense": {"from": "no.pt"}}],
    )
    with pytest.raises(DataError) as caught:
        quick_check(wrong)
    starts = [line.split(":")[0] for line in str(caught.value).splitlines()]
    assert starts == ["data.root", "models.resnet20", "models.resnet8"]


def test_a_gpu_is_looked_for_only_where_jobs_run(study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu = study(runtime={"device": "cuda"})
    monkeypatch.setattr(devices, "gpus_per_node", lambda: None)
    monkeypatch.setattr(devices, "visible_gpus", lambda: 0)
    with pytest.raises(ConfigError, match=r"^runtime\.device: 'cuda', but this machine shows no NVIDIA GPU"):
        quick_check(on_gpu)
    quick_check(on_gpu, local=False)
    monkeypatch.setattr(devices, "visible_gpus", lambda: 1)
    quick_check(on_gpu)


def test_more_gpus_than_this_machine_shows_are_told_stage_by_stage(
    study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gpus_per_node", lambda: None)
    monkeypatch.setattr(devices, "visible_gpus", lambda: 2)
    wanted = {"dense": 3, "prune": 2, "evaluate": 8}
    with pytest.raises(ConfigError) as caught:
        quick_check(study(gpus=wanted, runtime={"device": "auto"}))
    allowed = "allowed: at most 2, or runtime.device: cpu, where each is a process without a GPU, or jobs on a cluster"
    assert str(caught.value).splitlines() == [
        f"gpus.dense: 3, but this machine shows 2 NVIDIA GPUs; {allowed}",
        f"gpus.evaluate: 8, but this machine shows 2 NVIDIA GPUs; {allowed}",
    ]
    quick_check(study(gpus=wanted, runtime={"device": "auto"}), local=False)
    quick_check(study(gpus=wanted, runtime={"device": "cpu"}))
    monkeypatch.setattr(devices, "visible_gpus", lambda: 0)
    quick_check(study(runtime={"device": "auto"}))


def test_a_folder_is_opened_for_the_nets(study: Callable[..., Study], pictures: str) -> None:
    data = {"name": "imagefolder", "root": pictures}
    said = validate(study(data=data, calibration={"images": 4}))
    assert said.startswith("data: imagefolder, 40 images of 3x32x32 in 2 classes; ")


def test_levels_below_a_methods_floors_are_refused(study: Callable[..., Study]) -> None:
    high = {"name": "high", "criterion": "taylor", "floors": {"max_removed": 0.3}}
    with pytest.raises(BudgetError) as caught:
        validate(study(methods=["taylor", high]))
    assert str(caught.value).startswith("models.resnet8: keep=0.6 cannot be reached: with max_removed=0.3")
    assert len(str(caught.value).splitlines()) == 1


def test_levels_that_an_allocation_of_weights_does_not_have_are_refused(study: Callable[..., Study]) -> None:
    pattern = {"name": "pattern", "criterion": "magnitude", "granularity": "weights", "allocation": "n-m"}
    floored = {**pattern, "name": "floored", "allocation": {"name": "global", "floor": 0.4}}
    with pytest.raises(BudgetError) as caught:
        validate(study(methods=[pattern, floored]))
    first, second = str(caught.value).splitlines()
    assert first == (
        "models.resnet8: keep=0.6 cannot be reached: allocation 'n-m' keeps 2 of every 4 weights; allowed: keep: [0.5]"
    )
    assert second.startswith("models.resnet8: keep=0.3 cannot be reached: allocation 'global' with floor=0.4 keeps")
    told = validate(study(methods=[pattern], keep=[0.5]))
    assert "  single weights: 77,072 may go" in told.splitlines()
    assert "lowest keep" not in told


def test_levels_of_weights_may_lie_below_those_of_structures(study: Callable[..., Study]) -> None:
    single = {"name": "single", "criterion": "magnitude", "granularity": "weights"}
    assert "lowest keep" not in validate(study(methods=[single], keep=[0.01]))
    with pytest.raises(BudgetError, match=r"keep=0\.01 cannot be reached"):
        validate(study(methods=["magnitude"], keep=[0.01]))


def test_weights_that_a_criterion_cannot_score_are_refused(
    study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    single = {"name": "single", "criterion": "fisher", "granularity": "weights"}
    validate(study(methods=[single]))
    monkeypatch.setattr("oba.importance.weights.matrix_weights", lambda _: {"conv1.weight"})
    with pytest.raises(ScoreError, match=r"resnet8: weight 'fc.weight': criterion 'fisher' scores"):
        validate(study(methods=[single]))


def test_a_study_of_weights_needs_no_structures(study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch) -> None:
    def untraceable(*_: object, **__: object) -> None:
        raise ModelError("cannot be traced")

    monkeypatch.setattr("oba.pruning.dependencies.find_structures", untraceable)
    single = {"name": "single", "criterion": "magnitude", "granularity": "weights"}
    assert "in 0 groups" not in validate(study(methods=[single]))
    with pytest.raises(ModelError, match="cannot be traced"):
        validate(study(methods=[single, "oba"]))


def test_a_criterion_that_cannot_score_a_net_is_refused(study: Callable[..., Study], pictures: str) -> None:
    data = {"name": "imagefolder", "root": pictures}
    wrong = study(
        data=data,
        models=["resnet8", "torchvision/squeezenet1_1"],
        methods=["magnitude", "bn-scale"],
        calibration={"images": 4},
    )
    with pytest.raises(ScoreError) as caught:
        validate(wrong)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("models.torchvision/squeezenet1_1: group ")
    assert line.endswith("criterion 'bn-scale' needs a batch norm with a scale")


def test_rates_that_a_net_has_no_place_for_are_refused(study: Callable[..., Study]) -> None:
    methods = ["magnitude", {"name": "own", "criterion": "magnitude", "finetune": {"stochastic_depth": 0.1}}]
    with pytest.raises(ModelError, match=r"^models\.resnet8: resnet8: takes no rate of stochastic_depth; allowed: "):
        validate(study(methods=methods))


def test_an_ignored_layer_that_a_model_does_not_have_is_told_with_the_model(study: Callable[..., Study]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(study(models=["resnet8", "vgg11x0.125"], structures={"ignore": ["layer1.*"]}, keep=[0.6]))
    (line,) = str(caught.value).splitlines()
    assert line.startswith("models.vgg11x0.125: structures.ignore: 'layer1.*' matches no layer of VGG")


def test_parts_that_a_data_set_brings_along_are_told(tmp_path: Path, study: Callable[..., Study]) -> None:
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        for label in "ab":
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / part / label / f"{number}.png")
    found = validate(study(data={"name": "imagefolder", "root": str(tmp_path)}, calibration={"images": 4}, keep=[0.6]))
    line = "data: imagefolder, 18 images of 3x8x8 in 2 classes; 8 train, 4 of its own to validate, 6 of its own to test"
    assert found.splitlines()[0] == line


def test_the_command_prints_what_the_sweep_will_be(tmp_path: Path, study: Callable[..., Study]) -> None:
    low = {"name": "low", "criterion": "random", "floors": {"max_removed": 0.5}}
    values = dump_study(study(methods=["taylor", "magnitude", low], keep=[0.6], controls=["scratch", "dense-longer"]))
    (tmp_path / "study.json").write_text(json.dumps(values))
    done = CliRunner().invoke(app, ["validate", str(tmp_path / "study.json")])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "data: digits, 1,797 images of 1x8x8 in 10 classes; 1,294 train, test images drawn by the seed",
        "sweep: 1 model x 1 seed x 3 methods x 1 schedule x 1 level; "
        "jobs: 1 dense, 4 prune, 4 finetune, 3 scratch, 8 evaluate",
        "resnet8: 77,754 parameters, 763,520 MACs; 112 structures in 3 groups",
        "  lowest keep: 0.0948 (taylor, magnitude), 0.5172 (low)",
        "  kept whole: 6 layers (in a residual stream, and structures.residual_streams is off)",
        "  kept whole: 1 layer (an output of the net)",
    ]


def test_the_command_ends_with_the_code_of_the_mistake(tmp_path: Path, study: Callable[..., Study]) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(dump_study(study(data={"name": "imagefolder", "root": "no"}))))
    done = subprocess.run(
        [sys.executable, "-m", "oba", "validate", str(path), "--cluster"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (4, "", "error: data.root: no is not a folder\n")


def test_a_cluster_without_gpus_is_asked_for_none(study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpus_per_node", lambda: 0)
    with pytest.raises(ConfigError, match=r"^runtime\.device: 'auto', .* asks SLURM for a GPU, .*; allowed: 'cpu'$"):
        quick_check(study(), local=False)
    quick_check(study(runtime={"device": "cpu"}), local=False)
    quick_check(study(), local=True)
    monkeypatch.setattr(devices, "gpus_per_node", lambda: 4)
    quick_check(study(gpus={"dense": 4}), local=False)
    with pytest.raises(ConfigError, match=r"^gpus\.dense: 5, but no node of this cluster has more than 4 NVIDIA GPUs"):
        quick_check(study(gpus={"dense": 5}), local=False)


@pytest.mark.parametrize(("listed", "gpus"), [("echo gpu:3", 3), ("echo '(null)'", 0), ("exit 1", None), (None, None)])
def test_slurm_is_asked_for_gpus_where_there_is_one(tmp_path, monkeypatch, listed, gpus) -> None:
    if listed:
        (tmp_path / "sinfo").write_text(f"#!/bin/sh\n{listed}\n")
        (tmp_path / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus_per_node.__wrapped__() == gpus

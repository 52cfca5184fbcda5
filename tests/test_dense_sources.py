"""What a study's dense nets start from is checked before the first job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from oba import validate as validation
from oba.config import Study
from oba.errors import ConfigError, ModelError
from oba.files import write_tensors
from oba.models import build_model
from oba.models.published import find_published
from oba.validate import quick_check, validate


def resnet8(classes: int = 10) -> dict[str, torch.Tensor]:
    return build_model("resnet8", num_classes=classes, input_size=(1, 8, 8)).state_dict()


def test_one_weight_file_serves_several_seeds_only_with_a_test_set_of_its_own(
    study: Callable[..., Study], tmp_path: Path, pictures: str
) -> None:
    weights = tmp_path / "net.safetensors"
    write_tensors(weights, resnet8())
    dense = {"from": str(weights), "epochs": 0}
    quick_check(study(dense=dense))
    with pytest.raises(ConfigError, match="2 seeds draw different test images from all images of digits"):
        quick_check(study(dense=dense, seeds=[0, 1]))
    root = Path(pictures)
    for label in "ab":
        (root / "test").mkdir(exist_ok=True)
        (root / label).rename(root / "test" / label)
    train = root / "train"
    train.mkdir()
    for label in "ab":
        (train / label).mkdir()
        for i in range(20):
            Image.new("RGB", (32, 32)).save(train / label / f"{i}.png")
    quick_check(
        study(dense=dense, seeds=[0, 1], data={"name": "imagefolder", "root": pictures}, calibration={"images": 4})
    )


def test_weights_must_fit_the_net(study: Callable[..., Study], tmp_path: Path) -> None:
    weights = tmp_path / "net.pt"
    torch.save(resnet8(), weights)
    dense = {"from": str(weights), "epochs": 0}
    assert "resnet8: 77,754 parameters" in validate(study(dense=dense))
    torch.save(resnet8(classes=7), weights)
    with pytest.raises(ModelError) as caught:
        validate(study(dense=dense, keep=[0.6, 0.01]))
    fit, level = str(caught.value).splitlines()
    assert fit == (
        f"models.resnet8: {weights}: its classifier (fc) has 7 classes, but the data set has 10; allowed: "
        "dense.replace_head: true (a new classifier, to be trained), or a file of a net with as many classes"
    )
    assert level.startswith("models.resnet8: keep=0.01 cannot be reached")
    validate(study(dense={"from": str(weights), "epochs": 1, "replace_head": True}))
    torch.save({"model": resnet8(), "model_ema": resnet8()}, weights)
    validate(study(dense=dense | {"weights": "model_ema"}))
    with pytest.raises(
        ModelError, match=r"holds several state dicts; allowed: one of them as dense\.weights: model, model"
    ):
        validate(study(dense=dense))


def test_pretrained_nets_are_warned_of_images_that_they_were_not_trained_on(
    study: Callable[..., Study], pictures: str
) -> None:
    def told(normalization: dict[str, Any], **dense: Any) -> list[str]:
        data = {"name": "imagefolder", "root": pictures, **normalization}
        dense = {"from": "pretrained", "epochs": 1, "replace_head": True} | dense
        said = validate(study(models=["timm/test_vit"], keep=[0.6], data=data, calibration={"images": 4}, dense=dense))
        return [line for line in said.splitlines() if "warning" in line]

    given = {"normalization": "given", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    advice = (
        "the weights 'r160_in1k' were trained on images normalised otherwise than by this study: data: "
        "{normalization: given, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}"
    )
    assert told(given) == []
    for other in ({}, {"normalization": "imagenet"}):
        assert told(other) == [f"  warning: {advice}"]


def test_pretrained_nets_that_do_not_train_must_get_their_own_normalisation(study: Callable[..., Study]) -> None:
    weights = find_published("timm/resnet10t", None)
    [own] = study(models=["timm/resnet10t"], dense={"from": "pretrained", "epochs": 0}).models
    for data in ({}, {"normalization": "given", "mean": [0.449], "std": [0.5]}):
        with pytest.raises(ConfigError) as caught:
            validation._pretrained_warnings(study(data={"name": "digits"} | data), own, 1)
        assert str(caught.value) == (
            f"dense.epochs: got 0, but {weights.mismatch(1, None)}; allowed: these, or at least 1 epoch of training"
        )
    fitting = {"name": "digits", "normalization": "given", "mean": [0.449], "std": [0.226]}
    assert validation._pretrained_warnings(study(data=fitting), own, 1) == [
        "the weights 'c3_in1k' of 3 channels are adapted to images of 1"
    ]

from __future__ import annotations

from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision

from oba.errors import ModelError
from oba.models import build_model
from oba.models.families.torchvision import _settings


def test_vision_transformers_of_torchvision_take_the_image_size() -> None:
    assert _settings("vit_b_16", (3, 32, 32)) == {"image_size": 32}
    assert _settings("maxvit_t", (3, 64, 96)) == {"input_size": (64, 96)}
    assert _settings("googlenet", (3, 64, 64))["aux_logits"] is False
    assert _settings("resnet18", (3, 32, 32)) == {}


@pytest.mark.parametrize("error", [URLError("no internet\nat all"), RuntimeError()])
def test_a_failed_download_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(*_: Any, **__: Any) -> dict[str, torch.Tensor]:
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    with pytest.raises(ModelError, match=r"^torchvision/squeezenet1_1: cannot be built with pretrained weights.*$"):
        build_model("torchvision/squeezenet1_1", num_classes=10, input_size=(3, 32, 32), pretrained=True)


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5"])
def test_pretrained_weights_survive_a_change_of_classes_and_channels(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    library = torchvision.models.get_model(name)
    weights = library.state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: weights)
    model = build_model(f"torchvision/{name}", num_classes=5, input_size=(1, 64, 64), pretrained=True)
    kept = [key for key, value in model.state_dict().items() if torch.equal(value, weights[key])]
    assert len(kept) >= len(weights) - 3  # first convolution, new classifier's weight and bias
    first = next(key for key in weights if key.endswith("weight"))
    torch.testing.assert_close(model.state_dict()[first], weights[first].sum(dim=1, keepdim=True))
    grey = torch.randn(2, 1, 64, 64)
    stem = first.removesuffix(".weight")
    torch.testing.assert_close(
        model.get_submodule(stem)(grey), library.get_submodule(stem)(grey.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-5
    )


def test_with_the_librarys_classes_the_pretrained_classifier_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torchvision.models.get_model("squeezenet1_1").state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: weights)
    model = build_model("torchvision/squeezenet1_1", num_classes=1000, input_size=(3, 64, 64), pretrained=True)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())

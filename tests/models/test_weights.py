from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from oba.errors import ModelError
from oba.models import build_model, load_weights
from oba.models.weights import check_weights


def net() -> nn.Module:
    return build_model("resnet8x0.25", num_classes=3, input_size=(1, 8, 8))


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return {name: torch.full_like(tensor, 2) for name, tensor in net().state_dict().items()}


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda w: w, id="bare"),
        pytest.param(lambda w: {"state_dict": w, "epoch": 3}, id="state_dict"),
        pytest.param(lambda w: {"model": w}, id="model"),
        pytest.param(lambda w: {f"module.{name}": tensor for name, tensor in w.items()}, id="parallel"),
        pytest.param(lambda w: {"model": {f"module.{name}": tensor for name, tensor in w.items()}}, id="both"),
    ],
)
@pytest.mark.parametrize("ending", [".pt", ".pth"])
def test_checkpoints_of_many_forms_load(tmp_path: Path, weights: dict[str, Tensor], wrap: Any, ending: str) -> None:
    path = tmp_path / f"net{ending}"
    torch.save(wrap(weights), path)
    model = net()
    load_weights(model, path)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_safetensors_load(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "net.safetensors"
    save_file(weights, path)
    model = net()
    load_weights(model, path)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_what_does_not_fit_is_named_with_sizes_and_nothing_is_loaded(
    tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    for name in ("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean"):
        del weights[name]
    weights["extra"] = torch.zeros(1)
    weights["fc.weight"] = torch.zeros(10, 16)
    path = tmp_path / "net.pt"
    torch.save(weights, path)
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        load_weights(model, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: weights do not fit the ")
    assert "4 missing: conv1.weight, bn1.weight, bn1.bias, …;" in message
    assert "1 unexpected: extra;" in message
    assert message.endswith("1 of another size: fc.weight (10, 16) instead of (3, 16)")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("net.safetensors", b"not tensors", "not a readable safetensors file"),
        ("net.pt", b"not tensors", "damaged, or holds more than tensors"),
        ("net.pt", b"", "damaged, or holds more than tensors"),
        ("net.bin", b"", r"not a weight file by its ending; allowed: \.safetensors, \.pt, \.pth"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name}: {reason}"):
        load_weights(net(), tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"net\.pt: no such weight file"):
        load_weights(net(), tmp_path / "net.pt")


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "net.pt")
    with pytest.raises(ModelError, match="holds more than tensors and plain values; save a state dict"):
        load_weights(net(), tmp_path / "net.pt")


@pytest.mark.parametrize("value", [torch.zeros(2), {"epoch": 3}, {"state_dict": {"a": 1}}])
def test_files_without_a_state_dict_are_refused(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "net.pt")
    with pytest.raises(ModelError, match="holds no state dict, neither bare nor as 'state_dict' or 'model'"):
        load_weights(net(), tmp_path / "net.pt")


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_weights_are_checked_by_name_and_shape_alone(
    tmp_path: Path, weights: dict[str, Tensor], ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = save_file if ending == ".safetensors" else torch.save
    path, model = tmp_path / f"net{ending}", net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    write(weights, path)
    monkeypatch.setattr("safetensors.torch.load_file", lambda _: pytest.fail("read"))
    check_weights(model, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    write(weights | {"fc.bias": torch.zeros(4)}, path)
    with pytest.raises(ModelError, match=r"of another size: fc\.bias \(4,\) instead of \(3,\)"):
        check_weights(model, path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"not a readable safetensors file|damaged"):
        check_weights(model, path)

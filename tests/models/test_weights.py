from __future__ import annotations

import errno
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
        ("net.pt", b"not tensors", "damaged, or holds more than dense tensors"),
        ("net.pt", b"hello world\n", "damaged, or holds more than dense tensors"),
        ("net.pt", b"PK\x03\x04no archive", "damaged, or holds more than dense tensors"),
        ("net.pt", b"", "damaged, or holds more than dense tensors"),
        ("net.bin", b"", r"not a weight file by its ending; allowed: \.safetensors, \.pt, \.pth"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name}: {reason}"):
        load_weights(net(), tmp_path / name)


def test_a_checkpoint_is_compared_with_its_checksums(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "net.pt"
    torch.save(weights, path)
    content = bytearray(path.read_bytes())
    content[content.index(weights["fc.weight"].numpy().tobytes()) + 2] ^= 1
    path.write_bytes(content)
    check_weights(net(), path)  # names and shapes are whole
    with pytest.raises(ModelError, match=r"net\.pt: damaged, net/data/\d+ in it does not have its checksum; copy the"):
        load_weights(net(), path)


def test_a_checkpoint_that_ends_early_is_damaged(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "net.pt"
    torch.save(weights, path)
    whole = path.read_bytes()
    for length in range(1, len(whole), len(whole) // 40):
        path.write_bytes(whole[:length])
        for check in (load_weights, check_weights):
            with pytest.raises(ModelError, match=r"net\.pt: damaged, or holds more than dense tensors"):
                check(net(), path)


def test_a_failing_disk_is_not_a_damaged_checkpoint(
    tmp_path: Path, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    torch.save(weights, tmp_path / "net.pt")
    monkeypatch.setattr("torch.load", fail)
    with pytest.raises(OSError, match="Input/output error"):
        load_weights(net(), tmp_path / "net.pt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"net\.pt: no such weight file"):
        load_weights(net(), tmp_path / "net.pt")


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "net.pt")
    with pytest.raises(ModelError, match="holds more than dense tensors and plain values; save a state dict"):
        load_weights(net(), tmp_path / "net.pt")


def test_a_folder_is_no_weight_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"^{tmp_path}: is a folder; allowed: a weight file \(\.safetensors, "):
        load_weights(net(), tmp_path)


@pytest.mark.parametrize(
    "value",
    [torch.zeros(2), {}, {"epoch": 3}, {"state_dict": {"a": 1}}, {1: torch.zeros(2)}, {2: {"a": torch.ones(1)}}],
)
def test_files_without_a_state_dict_are_refused(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "net.pt")
    for check in (load_weights, check_weights):
        with pytest.raises(ModelError, match=r"holds no state dict \(tensors by name\), neither bare nor as an entry$"):
            check(net(), tmp_path / "net.pt")


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's own, of sparse and of quantized tensors
@pytest.mark.parametrize(
    "of",
    [
        pytest.param(lambda tensor: tensor.to_sparse(), id="sparse"),
        pytest.param(lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), id="quantized"),
        pytest.param(lambda tensor: tensor * 1j, id="complex"),
        pytest.param(lambda tensor: torch.nested.nested_tensor([tensor, tensor[1:]]), id="nested"),
    ],
)
def test_only_dense_real_tensors_are_weights(tmp_path: Path, weights: dict[str, Tensor], of: Any) -> None:
    torch.save(weights | {"fc.weight": of(weights["fc.weight"])}, tmp_path / "net.pt")
    message = r"net\.pt: fc\.weight is sparse, quantized, nested or complex; allowed: dense real tensors$"
    with pytest.raises(ModelError, match=message):
        load_weights(net(), tmp_path / "net.pt")
    with pytest.raises(ModelError, match=f"{message}|damaged, or holds more than dense tensors"):
        check_weights(net(), tmp_path / "net.pt")


def averaged(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    model = torch.optim.swa_utils.AveragedModel(net())
    model.module.load_state_dict(weights)
    return model.state_dict()


@pytest.mark.parametrize("entry", ["model", "model_ema"])
def test_of_several_state_dicts_the_study_says_which(tmp_path: Path, weights: dict[str, Tensor], entry: str) -> None:
    other = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    path, model = tmp_path / "net.pt", net()
    states = {"model": averaged(other), "model_ema": averaged(other), entry: averaged(weights)}
    torch.save({**states, "optimizer": {"state": {0: {}}, "param_groups": []}, "epoch": 3}, path)
    with pytest.raises(
        ModelError, match=r"holds several state dicts; allowed: one of them as dense\.weights: model, model_ema$"
    ):
        check_weights(model, path)
    with pytest.raises(ModelError, match=r"has no state dict as entry 'ema'; allowed: model, model_ema$"):
        check_weights(model, path, entry="ema")
    load_weights(model, path, entry=entry)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_files_that_are_a_state_dict_have_no_entries(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save(weights, tmp_path / "net.pt")
    with pytest.raises(ModelError, match=r"entry 'model'; allowed: no dense\.weights, it is a state dict itself$"):
        load_weights(net(), tmp_path / "net.pt", entry="model")
    save_file(weights, tmp_path / "net.safetensors")
    with pytest.raises(ModelError, match=r"a safetensors file has no entry 'model'; allowed: no dense\.weights$"):
        load_weights(net(), tmp_path / "net.safetensors", entry="model")


HEAD: dict[str, Any] = {"head": ("fc",), "replace_head": True}


@pytest.mark.parametrize("classes", [3, 10, None])
def test_a_replaced_classifier_stays_random_and_the_rest_is_strict(
    tmp_path: Path, weights: dict[str, Tensor], classes: int | None
) -> None:
    path, model = tmp_path / "net.pt", net()
    own = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith("fc.")}
    body = {name: tensor for name, tensor in weights.items() if name not in own}
    head = {name: torch.ones(classes, *tensor.shape[1:]) for name, tensor in own.items()} if classes else {}
    torch.save(body | head, path)
    load_weights(model, path, **HEAD)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, own.get(name, weights[name]))
    torch.save({name: tensor for name, tensor in body.items() if name != "conv1.weight"} | head, path)
    with pytest.raises(ModelError, match=r"do not fit the 54 tensors of the net; 1 missing: conv1\.weight$"):
        load_weights(model, path, **HEAD)


def test_another_number_of_classes_is_told_with_the_key(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save(weights | {"fc.weight": torch.zeros(10, 16), "fc.bias": torch.zeros(10)}, tmp_path / "net.pt")
    message = r"its classifier \(fc\) has 10 classes, but the data set has 3; allowed: dense\.replace_head: true"
    with pytest.raises(ModelError, match=message):
        check_weights(net(), tmp_path / "net.pt", head=("fc",))


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

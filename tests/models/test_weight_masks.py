"""Masks of single weights: exact zeros in the net, and no place on disk for what is gone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import oba
from oba.errors import FileError, ModelError
from oba.files import digest_file, digest_json, read_json, read_tensors, write_json
from oba.models.stored import ModelCard, save_pruned
from oba.models.weight_masks import apply_masks, pack, unpack
from oba.pruning.replay import load_masked

CARD = ModelCard("net", 2, (1, 4, 4), ("a", "b"), (0.5,), (0.2,))


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def random_masks(model: nn.Module, keep: float = 0.4) -> dict[str, Tensor]:
    return {name: torch.rand(model.get_parameter(name).shape) < keep for name in ("0.weight", "3.weight")}


@pytest.fixture
def masked() -> tuple[nn.Sequential, dict[str, Tensor]]:
    model = net()
    masks = random_masks(model)
    apply_masks(model, masks)
    return model, masks


def test_a_masked_net_comes_back_bit_for_bit_with_its_masks(masked, tmp_path):
    model, masks = masked
    masks["0.weight"][:] = False  # a layer that is empty
    apply_masks(model, masks)
    with torch.no_grad():
        model[3].weight[0, masks["3.weight"][0].nonzero()[0]] = 0.0  # a kept weight that happens to be 0
    save_pruned(tmp_path, model, CARD, masks=masks)
    again, found = load_masked(tmp_path, net())
    assert list(found) == ["0.weight", "3.weight"], "in the order of the net"
    assert all(torch.equal(found[name], mask) for name, mask in masks.items())
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert not again.get_parameter("0.weight").any()
    assert torch.equal(oba.load_pruned(tmp_path, net()).get_parameter("3.weight"), model[3].weight)


def test_what_is_gone_takes_a_bit_on_disk(tmp_path):
    model = nn.Linear(1000, 400, bias=False)
    masks = {"weight": torch.rand(400, 1000) < 0.2}
    apply_masks(model, masks)
    save_pruned(tmp_path, model, CARD, masks=masks)
    expected = 4 * int(masks["weight"].sum()) + 400_000 / 8
    assert expected <= (tmp_path / "model.safetensors").stat().st_size < expected + 300


def test_a_masked_weight_that_is_not_0_is_never_stored(masked, tmp_path):
    model, masks = masked
    with torch.no_grad():
        model[0].weight[(~masks["0.weight"]).nonzero()[0].split(1)] = 1e-30
    with pytest.raises(ModelError, match=r"weight '0\.weight': 1 masked elements are not 0"):
        save_pruned(tmp_path, model, CARD, masks=masks)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_net_without_masks_is_stored_as_ever(tmp_path):
    model = net()
    save_pruned(tmp_path, model, CARD)
    assert read_tensors(tmp_path / "model.safetensors").keys() == model.state_dict().keys()
    assert load_masked(tmp_path, net())[1] == {}


@pytest.mark.parametrize("change", ["bits", "values"])
def test_a_mask_that_does_not_fit_its_weight_is_refused(masked, tmp_path, change):
    from oba.files import write_tensors

    model, masks = masked
    save_pruned(tmp_path, model, CARD, masks=masks)
    path = tmp_path / "model.safetensors"
    tensors = read_tensors(path)
    name = "0.weight:mask" if change == "bits" else "0.weight"
    write_tensors(path, tensors | {name: tensors[name][:-1]})
    plan = {key: value for key, value in read_json(tmp_path / "plan.json").items() if key != "digest"}
    plan["weights"] = digest_file(path)
    write_json(tmp_path / "plan.json", plan | {"digest": digest_json(plan)})
    with pytest.raises(FileError, match=r"model 'net': the mask of weight '0\.weight' has \d+ bits for 27 elements"):
        oba.load_pruned(tmp_path, net())


def test_masks_of_another_net_are_refused(masked, tmp_path):
    model, masks = masked
    save_pruned(tmp_path, model, CARD, masks=masks)
    with pytest.raises(FileError, match=r"does not fit model 'net'.*3\.weight:mask"):
        oba.load_pruned(tmp_path, net()[:3])


def test_packing_is_exact_for_every_number_of_weights():
    for size in range(1, 18):
        model = nn.Linear(size, 1, bias=False)
        masks = {"weight": torch.arange(size)[None] % 3 == 0}
        apply_masks(model, masks)
        state, found = unpack(pack(model.state_dict(), masks), nn.Linear(size, 1, bias=False))
        assert torch.equal(state["weight"], model.weight)
        assert torch.equal(found["weight"], masks["weight"])

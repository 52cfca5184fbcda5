from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

from oba.pruning.cut import make_update
from oba.pruning.dependencies import find_groups
from oba.structures import IN, OUT


def test_the_mean_outputs_of_a_consumer_stay(case, make_cut, calibration):
    """Over all positions, on what is left of its inputs before the cut."""
    cut = make_cut(case.model, case.groups)
    make_update("bias").adjust(cut, calibration)
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in cut.consumers()}
    assert seen
    for name, layer in cut.consumers().items():

        def compare(layer, args, y, name=name):
            channels = -1 if isinstance(layer, nn.Linear) else 1
            kept = args[0].index_select(channels, cut.kept(name, IN))
            adjusted = cut.after.get_submodule(name)(kept)
            before = y.index_select(channels, cut.kept(name, OUT))
            seen[name].append((adjusted - before).movedim(channels, -1).flatten(0, -2))

        layer.register_forward_hook(compare)
    with torch.no_grad():
        for inputs, _ in calibration():
            case.model(inputs)
    for name, differences in seen.items():
        difference = torch.cat(differences)
        if case.model.get_submodule(name).bias is not None:
            assert difference.abs().max() > 1e-3
            assert difference.mean(0).abs().max() < 1e-12


def net(*, bias: bool, norm: bool) -> Any:
    torch.manual_seed(0)
    middle = [nn.BatchNorm2d(5)] if norm else []
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3, bias=bias), *middle, nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(80, 5)).double().eval()


def test_without_a_bias_the_norm_takes_the_mean(make_cut, calibration, caplog):
    model = net(bias=False, norm=True)
    cut = make_cut(model, [find_groups(model, (3, 8, 8))[0]])
    assert list(cut.consumers()) == ["2"]
    with caplog.at_level(logging.WARNING):
        make_update("bias").adjust(cut, calibration)
    assert not caplog.records
    inputs = torch.cat([x for x, _ in calibration()])
    outputs = cut.after[2](cut.after[1](cut.after[0](inputs)))
    torch.testing.assert_close(cut.after[3].running_mean, outputs.mean((0, 2, 3)))


def test_a_layer_with_neither_is_left_and_named(make_cut, calibration, caplog):
    model = net(bias=False, norm=False)
    cut = make_cut(model, [find_groups(model, (3, 8, 8))[0]])
    found = {key: tensor.clone() for key, tensor in cut.after.state_dict().items()}
    with caplog.at_level(logging.WARNING):
        make_update("bias").adjust(cut, calibration)
    (record,) = caplog.records
    assert record.getMessage() == (
        "update 'bias': layer '2' has no bias and no batch norm behind it; it stays as it is"
    )
    assert all(torch.equal(tensor, found[key]) for key, tensor in cut.after.state_dict().items())


def test_a_constant_channel_is_replaced_exactly(make_cut, calibration):
    """What does not depend on the image is a bias."""
    model = net(bias=True, norm=False)
    with torch.no_grad():
        model[0].weight[[1, 4]] = 0
        model[0].bias[[1, 4]] = torch.tensor([0.7, 1.3], dtype=torch.float64)
    groups = find_groups(model, (3, 8, 8))
    cut = make_cut(model, groups, {groups[0].name: [1, 4]})
    make_update("bias").adjust(cut, calibration)
    inputs = torch.cat([x for x, _ in calibration()])
    torch.testing.assert_close(cut.after(inputs), model(inputs), rtol=1e-10, atol=1e-12)

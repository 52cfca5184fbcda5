"""Each kind of layer: its axes, and what cutting does to its parameters and attributes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oba.errors import ModelError
from oba.pruning import layers
from oba.pruning.plan import Kept


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(3, 4, 1), {"out": 4, "in": 3}),
        (nn.Conv1d(4, 8, 1, groups=2), {"out": 8, "in": 4}),
        (nn.Linear(5, 6), {"out": 6, "in": 5}),
        (nn.BatchNorm2d(7), {"feature": 7}),
        (nn.InstanceNorm2d(7), {"feature": 7}),
        (nn.GroupNorm(2, 6), {"feature": 6}),
        (nn.LayerNorm(5), {"feature": 5}),
        (nn.LayerNorm((3, 5)), {}),
        (nn.PReLU(4), {"feature": 4}),
        (nn.PReLU(), {}),
        (nn.Parameter(torch.zeros(1, 6, 1)), {"feature": 6}),
        (nn.Parameter(torch.zeros(1, 1)), {"feature": 1}),
        (nn.ConvTranspose2d(3, 4, 1), {}),
        (nn.Embedding(3, 4), {}),
    ],
)
def test_axes(layer, expected):
    assert layers.axes(layer) == expected


def _cut(layer, **kept):
    model = nn.Sequential(layer)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    layers.cut(model, "0", {axis.rstrip("_"): k for axis, k in kept.items()})
    return model[0], before


def test_conv():
    conv, before = _cut(nn.Conv2d(3, 4, 3), out=Kept(4, (1, 3)), in_=Kept(3, (0, 2)))
    assert torch.equal(conv.weight, before["0.weight"][[1, 3]][:, [0, 2]])
    assert torch.equal(conv.bias, before["0.bias"][[1, 3]])
    assert (conv.out_channels, conv.in_channels, conv.groups) == (2, 2, 1)


def test_conv_without_bias_on_one_axis():
    conv, before = _cut(nn.Conv2d(3, 4, 3, bias=False), in_=Kept(3, (1,)))
    assert torch.equal(conv.weight, before["0.weight"][:, [1]])
    assert conv.bias is None
    assert (conv.out_channels, conv.in_channels) == (4, 1)


def test_grouped_conv_keeps_the_width_of_its_groups():
    conv, before = _cut(nn.Conv2d(6, 9, 1, groups=3), out=Kept(9, (3, 4, 5)), in_=Kept(6, (2, 3)))
    assert torch.equal(conv.weight, before["0.weight"][3:6])
    assert (conv.out_channels, conv.in_channels, conv.groups) == (3, 2, 1)


def test_linear():
    linear, before = _cut(nn.Linear(5, 4), out=Kept(4, (0,)), in_=Kept(5, (1, 4)))
    assert torch.equal(linear.weight, before["0.weight"][[0]][:, [1, 4]])
    assert torch.equal(linear.bias, before["0.bias"][[0]])
    assert (linear.out_features, linear.in_features) == (1, 2)


def test_batch_norm():
    norm = nn.BatchNorm2d(4)
    norm.running_mean.uniform_()
    norm, before = _cut(norm, feature=Kept(4, (1, 2)))
    assert norm.num_features == 2
    assert torch.equal(norm.running_mean, before["0.running_mean"][[1, 2]])
    assert isinstance(norm.weight, nn.Parameter)
    assert set(dict(norm.named_buffers())) == {"running_mean", "running_var", "num_batches_tracked"}


def test_norms_without_parameters():
    norm, _ = _cut(nn.InstanceNorm2d(4), feature=Kept(4, (1,)))
    assert norm.num_features == 1
    assert norm.weight is None


def test_group_norm():
    norm, _ = _cut(nn.GroupNorm(3, 6), feature=Kept(6, (0, 1, 4, 5)))
    assert (norm.num_groups, norm.num_channels, norm.weight.shape) == (2, 4, (4,))
    single, _ = _cut(nn.GroupNorm(1, 6), feature=Kept(6, (0, 4, 5)))
    assert (single.num_groups, single.num_channels) == (1, 3)


def test_layer_norm_and_prelu():
    norm, _ = _cut(nn.LayerNorm(4), feature=Kept(4, (0, 3)))
    assert norm.normalized_shape == (2,)
    prelu, _ = _cut(nn.PReLU(4), feature=Kept(4, (0, 3)))
    assert (prelu.num_parameters, prelu.weight.shape) == (2, (2,))


def test_bare_parameters_are_cut_where_their_channels_are():
    model = nn.Module()
    model.inner = nn.Module()
    model.inner.gamma = nn.Parameter(torch.arange(6.0).view(1, 6, 1, 1))
    layers.cut(model, "inner.gamma", {"feature": Kept(6, (5, 0)[::-1])})
    assert model.inner.gamma.flatten().tolist() == [0, 5]
    model.inner.gamma = nn.Parameter(torch.ones(1, 1, 1))
    layers.cut(model, "inner.gamma", {"feature": Kept(1, (0,))})
    assert model.inner.gamma.shape == (1, 1, 1)


def test_frozen_parameters_stay_frozen_and_dtype_stays():
    linear = nn.Linear(3, 4).to(torch.bfloat16)
    linear.weight.requires_grad_(False)
    linear, _ = _cut(linear, out=Kept(4, (0, 1)))
    assert not linear.weight.requires_grad
    assert linear.bias.requires_grad
    assert linear.weight.dtype == torch.bfloat16


def test_blocks():
    conv = nn.Conv2d(6, 9, 1, groups=3)
    assert layers.coupled_blocks(conv) == layers.coupled_blocks(nn.GroupNorm(3, 6)) == 3
    assert layers.coupled_blocks(nn.Linear(2, 2)) == 1
    assert layers.whole_blocks(conv, "out", Kept(9, (0, 1, 2, 6, 7, 8))) == (0, 2)
    assert layers.whole_blocks(conv, "in", Kept(6, (0, 1, 2))) is None


def test_names_that_nothing_has():
    model = nn.Sequential(nn.Linear(2, 2))
    assert layers.find(model, "0") is model[0]
    assert layers.find(model, "0.bias") is model[0].bias
    with pytest.raises(ModelError, match=r"Sequential has no layer '1.conv'; the plan is of another model"):
        layers.find(model, "1.conv")

from __future__ import annotations

import pytest
from torch import nn
from zoo import SqueezeExcite, Swish

from oba.curvature import is_unit, layer_parameters, parameter_layers


class MyActivation(nn.Module):
    pass


class Normalizer(nn.Module):
    pass


class ReLUBlock(nn.Sequential):
    pass


class Factor(nn.Module):
    pass


@pytest.mark.parametrize(
    "module",
    [
        *(nn.ReLU(), nn.SiLU(), nn.Softmax(-1), nn.GLU(), nn.BatchNorm2d(2), nn.InstanceNorm1d(2), nn.LayerNorm(2)),
        *(nn.RMSNorm(2), nn.AvgPool2d(2), nn.AdaptiveMaxPool1d(1)),
        *(Swish(), MyActivation(), Normalizer(), ReLUBlock(nn.ReLU())),
    ],
    ids=lambda m: type(m).__name__,
)
def test_activations_norms_and_pools_are_units(module: nn.Module) -> None:
    assert is_unit(module)


def test_norms_of_timm_are_units() -> None:
    from timm.layers import BatchNormAct2d, EvoNorm2dS0, LayerNorm2d

    assert all(map(is_unit, (BatchNormAct2d(2), LayerNorm2d(2), EvoNorm2dS0(32))))


@pytest.mark.parametrize(
    "module",
    [
        *(nn.Linear(2, 2), nn.MultiheadAttention(2, 1), nn.Sequential(), nn.Identity(), nn.Flatten()),
        *(nn.Embedding(2, 2), Factor(), SqueezeExcite(), ReLUBlock(nn.Conv1d(1, 1, 1))),
    ],
    ids=lambda m: type(m).__name__,
)
def test_other_modules_are_not(module: nn.Module) -> None:
    assert not is_unit(module)


def test_layer_parameters_are_weights_and_biases_of_layers_and_projections() -> None:
    model = nn.ModuleDict({
        "conv": nn.Conv2d(2, 2, 1),
        "norm": nn.BatchNorm2d(2),
        "attention": nn.MultiheadAttention(4, 2, add_bias_kv=True),
        "separate": nn.MultiheadAttention(4, 2, kdim=3, vdim=3, bias=False),
        "embed": nn.Embedding(3, 2),
    })
    model["tied"] = nn.Linear(2, 3, bias=False)
    model["tied"].weight = model["embed"].weight
    assert layer_parameters(model) == [
        "conv.weight",
        "conv.bias",
        "attention.in_proj_weight",
        "attention.in_proj_bias",
        "attention.out_proj.weight",
        "attention.out_proj.bias",
        "separate.q_proj_weight",
        "separate.k_proj_weight",
        "separate.v_proj_weight",
        "separate.out_proj.weight",
        "embed.weight",
    ]


def test_parameter_layers_are_found_under_all_their_names() -> None:
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.Conv1d(1, 1, 1))
    assert list(parameter_layers(model)) == ["0", "2", "3"]

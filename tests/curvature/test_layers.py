from __future__ import annotations

from torch import nn

from oba.curvature import layer_parameters, parameter_layers


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

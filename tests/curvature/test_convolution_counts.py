"""What Algorithm 1 and the exact product cost in convolutions: the same, since both treat layers alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from convolutions import LAYERS, Units, X, loss, network

from oba.curvature import (
    channel_curvature,
    channel_self_product,
    curvature_adjoints,
    layer_parameters,
    self_product,
)

WAYS = {"oba": (curvature_adjoints, channel_curvature), "oba-exact": (self_product, channel_self_product)}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Any:
    return WAYS[request.param]


def test_parameters_cost_six_units(way: Any) -> None:
    model = network()
    with Units() as units:
        way[0](model, X, loss, layer_parameters(model))
    # The first layer's input does not move: no tangent to compute, nothing to send on, one product to the weight.
    assert units.count == {"forward": 2 * LAYERS - 1, "to input": 2 * (LAYERS - 1), "to weight": 2 * LAYERS - 1}


@pytest.mark.parametrize("axis", ["out", "in"])
def test_channels_cost_four_units(way: Any, axis: str) -> None:
    model = network()
    wanted = {(f"{2 * i}.weight", axis) for i in range(1, LAYERS)}
    with Units() as units:
        sums, others = way[1](model, X, loss, layer_parameters(model), wanted)
    assert units.count == {"forward": 2 * LAYERS - 1, "to input": 2 * (LAYERS - 1), "to weight": 0}
    biases = {(f"{2 * i}.bias", "out") for i in range(1, LAYERS)} if axis == "out" else set()
    assert sums.keys() == wanted | biases
    assert not others


def test_what_an_activation_overwrites_is_computed_again(way: Any) -> None:
    plain, inplace = network(), network(inplace=True)
    wanted = {(f"{2 * i}.weight", "out") for i in range(LAYERS)}
    expected, _ = way[1](plain, X, loss, layer_parameters(plain), wanted)
    with Units() as units:
        found, _ = way[1](inplace, X, loss, layer_parameters(inplace), wanted)
    assert units.count["forward"] == 2 * LAYERS - 1 + LAYERS
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-12, atol=1e-15)


def test_the_input_channels_of_the_first_layer_can_be_had(way: Any) -> None:
    model = network()
    names = layer_parameters(model)
    sums, _ = way[1](model, X, loss, names, {("0.weight", "in")})
    adjoints = way[0](model, X, loss, names)
    expected = (model.get_parameter("0.weight").detach() * adjoints["0.weight"]).sum((0, 2, 3))
    assert expected.abs().max() > 1e-6
    torch.testing.assert_close(sums["0.weight", "in"], expected, rtol=1e-10, atol=1e-14)

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from convolutions import LAYERS, Units, X, loss, network
from nested import assert_same, nested, trainable
from zoo import CASES, IDS, Member

from oba.curvature import channel_self_product, parameter_layers, self_product
from oba.importance.slices import channel_sums
from oba.importance.state import left_as_found


@pytest.mark.parametrize(("member", "norm"), CASES, ids=IDS)
def test_the_product_is_that_of_nested_differentiation(member: Member, norm: str) -> None:
    model, (inputs, targets) = member.make(), member.batch()
    with left_as_found(model, norm):
        found = self_product(model, inputs, lambda y: F.cross_entropy(y, targets), trainable(model))
        expected = nested(model, inputs, lambda y: F.cross_entropy(y, targets))
    assert_same(found, expected)


@pytest.mark.parametrize(("member", "norm"), CASES, ids=IDS)
def test_sums_over_channels_are_those_of_the_product(member: Member, norm: str) -> None:
    model, (inputs, targets) = member.make(), member.batch()
    parameters = dict(model.named_parameters())
    of_parameter = {id(p): name for name, p in parameters.items()}
    layers = parameter_layers(model)
    pairs = [(name, axis) for name in layers for axis in ("out", "in")]
    weights = {layer: of_parameter[id(layers[layer].weight)] for layer in layers}
    with left_as_found(model, norm):
        names = trainable(model)
        wanted = {(weights[layer], axis) for layer, axis in pairs}
        sums, others = channel_self_product(model, inputs, lambda y: F.cross_entropy(y, targets), names, wanted)
        exact = nested(model, inputs, lambda y: F.cross_entropy(y, targets))
    scores = {name: parameters[name].detach() * value for name, value in exact.items()}
    expected = channel_sums(model, scores, pairs)
    rest = channel_sums(model, {name: parameters[name].detach() * value for name, value in others.items()}, pairs)
    largest = max(float(e.abs().max()) for e in expected.values())
    assert largest > 0
    for (layer, axis), value in expected.items():
        total = rest.get((layer, axis), torch.zeros_like(value))
        total = total + sums.get((weights[layer], axis), 0)
        if axis == "out" and layers[layer].bias is not None:
            total = total + sums.get((of_parameter[id(layers[layer].bias)], "out"), 0)
        assert (total - value).abs().max() <= 1e-9 * value.abs().max() + 1e-13 * largest, (layer, axis)


def test_parameters_cost_six_units() -> None:
    model = network()
    with Units() as units:
        self_product(model, X, loss, trainable(model))
    # The first layer's input does not move: no tangent to compute, nothing to send on, one product to the weight.
    assert units.count == {"forward": 2 * LAYERS - 1, "to input": 2 * (LAYERS - 1), "to weight": 2 * LAYERS - 1}


@pytest.mark.parametrize("axis", ["out", "in"])
def test_channels_cost_four_units(axis: str) -> None:
    model = network()
    wanted = {(f"{2 * i}.weight", axis) for i in range(1, LAYERS)}
    with Units() as units:
        sums, others = channel_self_product(model, X, loss, trainable(model), wanted)
    assert units.count == {"forward": 2 * LAYERS - 1, "to input": 2 * (LAYERS - 1), "to weight": 0}
    biases = {(f"{2 * i}.bias", "out") for i in range(1, LAYERS)} if axis == "out" else set()
    assert sums.keys() == wanted | biases
    assert not others


def test_what_an_activation_overwrites_is_computed_again() -> None:
    plain, inplace = network(), network(inplace=True)
    wanted = {(f"{2 * i}.weight", "out") for i in range(LAYERS)}
    expected, _ = channel_self_product(plain, X, loss, trainable(plain), wanted)
    with Units() as units:
        found, _ = channel_self_product(inplace, X, loss, trainable(inplace), wanted)
    assert units.count["forward"] == 2 * (2 * LAYERS - 1)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-12, atol=1e-15)


def test_the_input_channels_of_the_first_layer_can_be_had() -> None:
    model = network()
    sums, _ = channel_self_product(model, X, loss, trainable(model), {("0.weight", "in")})
    product = self_product(model, X, loss, trainable(model))
    expected = (model.get_parameter("0.weight").detach() * product["0.weight"]).sum((0, 2, 3))
    assert expected.abs().max() > 1e-6
    torch.testing.assert_close(sums["0.weight", "in"], expected, rtol=1e-10, atol=1e-14)

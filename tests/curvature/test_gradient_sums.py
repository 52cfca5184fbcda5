from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from convolutions import LAYERS, Units, X, loss, network
from nested import trainable
from torch import Tensor, nn
from zoo import CASES, IDS, Member

from oba.curvature import channel_gradients, parameter_layers
from oba.importance.slices import channel_sums
from oba.importance.state import left_as_found

PLANE = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)


def products(model: nn.Module, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    return {name: parameters[name].detach() * gradient for name, gradient in gradients.items()}


@pytest.mark.parametrize(("member", "norm"), CASES, ids=IDS)
def test_sums_are_those_of_values_times_gradients(member: Member, norm: str) -> None:
    model, (inputs, targets) = member.make(), member.batch()
    of_parameter = {id(p): name for name, p in model.named_parameters()}
    layers = parameter_layers(model)
    pairs = [(name, axis) for name in layers for axis in ("out", "in")]
    weights = {layer: of_parameter[id(layers[layer].weight)] for layer in layers}
    with left_as_found(model, norm):
        names = trainable(model)
        wanted = {(weights[layer], axis) for layer, axis in pairs}
        sums, others = channel_gradients(model, inputs, lambda y: F.cross_entropy(y, targets), names, wanted)
        parameters = [p for p in model.parameters() if p.requires_grad]
        value = F.cross_entropy(model(inputs), targets)
        gradients = torch.autograd.grad(value, parameters, materialize_grads=True)
    expected = channel_sums(model, products(model, dict(zip(names, gradients, strict=True))), pairs)
    rest = channel_sums(model, products(model, others), pairs)
    largest = max(float(e.abs().max()) for e in expected.values())
    assert largest > 0
    assert {name for name, _ in sums} | others.keys() <= set(names)
    for (layer, axis), value in expected.items():
        total = rest.get((layer, axis), torch.zeros_like(value)) + sums.get((weights[layer], axis), 0)
        if axis == "out" and layers[layer].bias is not None:
            total = total + sums.get((of_parameter[id(layers[layer].bias)], "out"), 0)
        assert (total - value).abs().max() <= 1e-9 * value.abs().max() + 1e-14 * largest, (layer, axis)


@pytest.mark.parametrize("axis", ["out", "in"])
def test_channels_cost_two_units(axis: str) -> None:
    model = network()
    wanted = {(f"{2 * i}.weight", axis) for i in range(1, LAYERS)}
    with Units() as units:
        sums, others = channel_gradients(model, X, loss, trainable(model), wanted)
    assert units.count == {"forward": LAYERS, "to input": LAYERS - 1, "to weight": 0}
    biases = {(f"{2 * i}.bias", "out") for i in range(1, LAYERS)} if axis == "out" else set()
    assert sums.keys() == wanted | biases
    assert all(value.dtype == torch.float64 for value in sums.values())
    assert not others


def test_what_an_activation_overwrites_is_computed_again() -> None:
    plain, inplace = network(), network(inplace=True)
    wanted = {(f"{2 * i}.weight", "out") for i in range(LAYERS)}
    expected, _ = channel_gradients(plain, X, loss, trainable(plain), wanted)
    with Units() as units:
        found, _ = channel_gradients(inplace, X, loss, trainable(inplace), wanted)
    assert units.count["forward"] == 2 * LAYERS
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-12, atol=1e-15)


def test_the_input_channels_of_the_first_layer_can_be_had() -> None:
    model = network()
    sums, _ = channel_gradients(model, X, loss, trainable(model), {("0.weight", "in")})
    (gradient,) = torch.autograd.grad(loss(model(X)), [model.get_parameter("0.weight")])
    expected = (model.get_parameter("0.weight").detach() * gradient).sum((0, 2, 3))
    assert expected.abs().max() > 1e-6
    torch.testing.assert_close(sums["0.weight", "in"], expected, rtol=1e-10, atol=1e-14)


def test_what_the_loss_does_not_depend_on_has_no_sums() -> None:
    model = network()
    sums, others = channel_gradients(
        model, X, lambda y: y.square().sum(), ["6.weight", "6.bias"], {("6.weight", "in"), ("0.weight", "out")}
    )
    assert sums.keys() == {("6.weight", "in")}
    assert not others


class Cube(torch.autograd.Function):
    """Has no forward derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * 3 * x**2


class Apply(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Cube.apply(x)


def small(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), *layers, nn.Linear(3, 3)).double()


def test_a_custom_function_is_no_hindrance() -> None:
    model = small(Apply())
    sums, _ = channel_gradients(model, PLANE, torch.sum, trainable(model), {("0.weight", "out")})
    gradient, of_bias = torch.autograd.grad(
        model(PLANE).sum(), [model.get_parameter("0.weight"), model.get_parameter("0.bias")]
    )
    torch.testing.assert_close(sums["0.weight", "out"], (model.get_parameter("0.weight").detach() * gradient).sum(1))
    torch.testing.assert_close(sums["0.bias", "out"], model.get_parameter("0.bias").detach() * of_bias)

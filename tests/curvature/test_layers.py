from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from convolutions import LAYERS, Units, X, loss, network
from torch import Tensor, nn

from oba.curvature import channel_curvature, curvature_adjoints, layer_parameters
from oba.curvature.layers import Sweep


def test_a_plain_gradient_is_three_units() -> None:
    model = network()
    with Units() as units:
        torch.autograd.grad(loss(model(X)), list(model.parameters()))
    assert units.count == {"forward": LAYERS, "to input": LAYERS - 1, "to weight": LAYERS}


def test_parameters_cost_six_units() -> None:
    model = network()
    with Units() as units:
        curvature_adjoints(model, X, loss, layer_parameters(model))
    # The first layer's input does not move: no tangent to compute, nothing to send on, one product to the weight.
    assert units.count == {"forward": 2 * LAYERS - 1, "to input": 2 * (LAYERS - 1), "to weight": 2 * LAYERS - 1}


@pytest.mark.parametrize("axis", ["out", "in"])
def test_channels_cost_four_units(axis: str) -> None:
    model = network()
    wanted = {(f"{2 * i}.weight", axis) for i in range(1, LAYERS)}
    with Units() as units:
        sums, others = channel_curvature(model, X, loss, layer_parameters(model), wanted)
    assert units.count == {"forward": 2 * LAYERS - 1, "to input": 2 * (LAYERS - 1), "to weight": 0}
    biases = {(f"{2 * i}.bias", "out") for i in range(1, LAYERS)} if axis == "out" else set()
    assert sums.keys() == wanted | biases
    assert not others


def test_what_an_activation_overwrites_is_computed_again() -> None:
    plain, inplace = network(), network(inplace=True)
    wanted = {(f"{2 * i}.weight", "out") for i in range(LAYERS)}
    expected, _ = channel_curvature(plain, X, loss, layer_parameters(plain), wanted)
    with Units() as units:
        found, _ = channel_curvature(inplace, X, loss, layer_parameters(inplace), wanted)
    assert units.count["forward"] == 2 * (2 * LAYERS - 1)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-12, atol=1e-15)


def test_the_input_channels_of_the_first_layer_can_be_had() -> None:
    model = network()
    names = layer_parameters(model)
    sums, _ = channel_curvature(model, X, loss, names, {("0.weight", "in")})
    adjoints = curvature_adjoints(model, X, loss, names)
    expected = (model.get_parameter("0.weight").detach() * adjoints["0.weight"]).sum((0, 2, 3))
    assert expected.abs().max() > 1e-6
    torch.testing.assert_close(sums["0.weight", "in"], expected, rtol=1e-10, atol=1e-14)


class BothWays(nn.Module):
    """A weight that is used as it is, and computed with."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        return F.linear(torch.tanh(self.second(x)), self.second.weight.mT, self.second.bias)


def test_a_weight_that_is_also_used_in_other_ways_is_reported_in_both_parts() -> None:
    torch.manual_seed(0)
    model = BothWays().double()
    x = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
    names = layer_parameters(model)
    adjoints = curvature_adjoints(model, x, loss, names)
    sums, others = channel_curvature(model, x, loss, names, {("second.weight", "out"), ("first.weight", "out")})
    # Autograd may find zeros for a bias that no product reaches; nothing else is left for the other way.
    assert {name for name, value in others.items() if value.any()} == {"second.weight"}
    scores = {name: dict(model.named_parameters())[name].detach() * value for name, value in adjoints.items()}
    expected = scores["second.weight"].sum(1) + scores["second.bias"]
    of_others = (model.second.weight.detach() * others["second.weight"]).sum(1)
    found = sums["second.weight", "out"] + sums["second.bias", "out"] + of_others
    assert of_others.abs().max() > 1e-6
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


def test_sums_are_added_up() -> None:
    sweep = Sweep({("w", "out")})
    assert sweep.wants("w", "out")
    assert not sweep.wants("w", "in")
    assert not Sweep().wants("w", "out")
    sweep.add("w", "out", torch.ones(2))
    sweep.add("w", "out", torch.ones(2))
    assert sweep.sums["w", "out"].tolist() == [2, 2]
    assert sweep.sums["w", "out"].dtype == torch.float64

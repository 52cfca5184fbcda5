from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from convolutions import LAYERS, Units, X, loss, network
from torch import Tensor, nn

from oba.curvature import channel_curvature, curvature_adjoints, layer_parameters
from oba.curvature.adjoint_layers import AdjointLayer


def test_a_plain_gradient_is_three_units() -> None:
    model = network()
    with Units() as units:
        torch.autograd.grad(loss(model(X)), list(model.parameters()))
    assert units.count == {"forward": LAYERS, "to input": LAYERS - 1, "to weight": LAYERS}


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


def test_what_is_kept_between_the_passes_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of one example the factors of a weight's product are small, of many the product is.
    kept: list[bool] = []
    both = AdjointLayer._both
    monkeypatch.setattr(
        AdjointLayer, "_both", lambda self, *rest: (kept.append(self._factors is not None), both(self, *rest))[1]
    )
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)).double()
    names, x = layer_parameters(model), torch.randn(20, 6, dtype=torch.float64)

    def value(outputs: Tensor) -> Tensor:
        return outputs.square().sum(1).mean()

    together = curvature_adjoints(model, x, value, names)
    assert kept == [False] * 3
    alone = [curvature_adjoints(model, one, value, names) for one in x.split(1)]
    assert kept[3:] == [True, True, False] * 20, "the input of the first layer does not move"
    for name in names:
        mean = torch.stack([found[name] for found in alone]).mean(0)
        assert mean.any().item() is (name != "4.bias"), "at the loss λ = 0"
        torch.testing.assert_close(together[name], mean, rtol=1e-10, atol=1e-13)

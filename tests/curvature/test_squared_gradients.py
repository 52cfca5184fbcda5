"""Squares of gradients against one backward pass for each example."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo import ZOO, Member

from oba.curvature.squared_gradients import squared_gradients
from oba.errors import ModelError, ScoreError
from oba.importance.state import left_as_found

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
COUPLED, REFUSED = "computed_norm", "standardized"
MEMBERS = [member for member in ZOO if member.name not in {COUPLED, REFUSED}]


def found(model: nn.Module, x: Tensor, y: Tensor, **limits: int) -> dict[str, Tensor]:
    with left_as_found(model, "eval"):
        return squared_gradients(model, x, lambda outputs: F.cross_entropy(outputs, y, reduction="sum"), **limits)


def one_by_one(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return sums of squares for the weights and biases of all layers that the loss depends on."""
    owned = {id(p) for m in model.modules() if isinstance(m, LAYERS) for p in m.parameters(recurse=False)}
    parameters = {n: p.requires_grad_() for n, p in model.named_parameters() if id(p) in owned}
    total: dict[str, Any] = {}
    with left_as_found(model, "eval"):
        for i in range(len(x)):
            value = F.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
            grads = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
            for name, grad in zip(parameters, grads, strict=True):
                if grad is not None:
                    total[name] = total.get(name, 0) + grad.square()
    return total


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_they_are_sums_over_single_examples(member: Member) -> None:
    """Of layers that run twice, of tied weights, of frozen ones, and behind what is overwritten in place."""
    squares = found(member.make(), *member.batch())
    expected = one_by_one(member.make(), *member.batch())
    if member.name.startswith("multi_head"):  # its output projection is no call of a layer
        expected = {name: square for name, square in expected.items() if "out_proj" not in name}
    assert squares.keys() == expected.keys()
    for name, square in squares.items():
        assert square.dtype == torch.float64
        torch.testing.assert_close(square, expected[name], rtol=1e-9, atol=1e-20)


class Overwritten(nn.Module):
    """The input of a frozen layer is overwritten after use, which autograd allows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.frozen, self.head = nn.Linear(4, 4), nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.frozen(x)
        return self.head(y + x.mul_(2))


def test_the_input_of_a_frozen_layer_may_be_overwritten() -> None:
    torch.manual_seed(0)
    model, x, y = Overwritten().double(), torch.randn(5, 4).double(), torch.tensor([0, 2, 1, 1, 0])
    with torch.no_grad():
        inputs = model.stem(x).clone()
    p = model(x).softmax(1).detach() - F.one_hot(y, 3)
    gradients = p @ model.head.weight.detach()
    torch.testing.assert_close(found(model, x, y)["frozen.weight"], gradients.square().T @ inputs.square())


@pytest.mark.parametrize("name", ["mlp", "conv", "grouped", "shared"])
def test_memory_is_bounded_and_changes_nothing(name: str) -> None:
    [member] = [m for m in ZOO if m.name == name]
    expected = found(member.make(), *member.batch())
    for key, square in found(member.make(), *member.batch(), unfold_bytes=1).items():
        torch.testing.assert_close(square, expected[key], rtol=1e-12, atol=0)


def test_a_layer_whose_rows_are_no_examples_is_refused() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.head = nn.Linear(3, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.tokens(x.transpose(0, 1).flatten(0, 1))
            return self.head(torch.relu(tokens).unflatten(0, (x.shape[1], -1)).mean(0))

    with pytest.raises(ScoreError, match="layer 'tokens' takes 10 rows for 5 examples: it cannot be told which belong"):
        found(Flat(), torch.randn(5, 2, 3), torch.zeros(5, dtype=torch.long))


def test_a_layer_that_is_none_of_its_own_weight_is_refused() -> None:
    [member] = [m for m in ZOO if m.name == REFUSED]
    with pytest.raises(ModelError, match=r"layer '0' \(Standardized\) does not compute W X \+ b"):
        found(member.make(), *member.batch())

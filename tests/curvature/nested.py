"""Hθ by nested differentiation, and how a product is compared with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from oba.curvature import Arithmetic, differentiable_attention, nested_gradient


def trainable(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def nested(model: nn.Module, inputs: Tensor, value: Callable[[Any], Tensor]) -> dict[str, Tensor]:
    """Hθ by two ordinary differentiations."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with differentiable_attention(), Arithmetic(2):
        outputs = model(inputs.clone())
    values = list(parameters.values())
    derivatives = nested_gradient(value(outputs), values, [p.detach() for p in values], 2)
    return dict(zip(parameters, derivatives, strict=True))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    largest = max(float(e.abs().max()) for e in expected.values())
    assert largest > 0
    for name, value in expected.items():
        # The last term is for what is zero: filters and biases in front of a norm.
        allowed = 1e-9 * value.abs().max() + 1e-13 * largest
        assert (found[name] - value).abs().max() <= allowed, name

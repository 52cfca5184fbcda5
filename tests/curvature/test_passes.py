"""What gradient sums, Hessian products and Algorithm 1 refuse, and how they report failures: the same for all."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oba.curvature import (
    channel_curvature,
    channel_gradients,
    channel_self_product,
    curvature_adjoints,
    layer_parameters,
    self_product,
)
from oba.errors import ScoreError

PLANE = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)
OUTWARD = {("0.weight", "out")}
WAYS: dict[str, Callable[..., Any]] = {
    "gradient sums": lambda *call: channel_gradients(*call, OUTWARD),
    "Hessian products": self_product,
    "sums of Hessian products": lambda *call: channel_self_product(*call, OUTWARD),
    "curvature adjoints": curvature_adjoints,
    "sums of curvature adjoints": lambda *call: channel_curvature(*call, OUTWARD),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return WAYS[request.param]


def small(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), *layers, nn.Linear(3, 3)).double()


class Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class OptimizedModule(nn.Module):
    """Looks like what ``torch.compile`` returns."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module


def test_compiled_modules_are_refused(way: Callable[..., Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace(nn.ReLU(), PLANE)
    compiled = small(nn.ReLU())
    compiled[1]._compiled_call_impl = compiled[1]._call_impl  # as nn.Module.compile() does, without its slow imports
    for model, what in (
        (small(trace), r"module '1' \(.*\)"),
        (OptimizedModule(small()), r"the model \(OptimizedModule\)"),
        (compiled, r"module '1' \(ReLU\)"),
    ):
        with pytest.raises(ScoreError, match=f"^{what} is compiled"):
            way(model, PLANE, torch.sum, layer_parameters(model))


def test_backward_hooks_are_refused(way: Callable[..., Any]) -> None:
    model = small(nn.ReLU())
    handle = model[1].register_full_backward_hook(lambda *_: None)
    with pytest.raises(ScoreError, match=r"module '1' \(ReLU\) carries backward hooks"):
        way(model, PLANE, torch.sum, layer_parameters(model))
    handle.remove()
    assert way(model, PLANE, torch.sum, layer_parameters(model))


def test_a_computed_weight_is_refused(way: Callable[..., Any]) -> None:
    model = small(torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    with pytest.raises(ScoreError, match=r"module '1' \(ParametrizedLinear\) computes its weight"):
        way(model, PLANE, torch.sum, layer_parameters(model))


class Smuggled(nn.Module):
    """Uses its weight where no function mode can see it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            return x * self.weight


@pytest.mark.parametrize("name", ["1.weight", "3.weight"])
def test_a_parameter_used_out_of_sight_is_refused(way: Callable[..., Any], name: str) -> None:
    model = small(Smuggled() if name == "1.weight" else nn.Tanh(), nn.Tanh())

    def value(outputs: Tensor) -> Tensor:
        return (outputs**2).sum() + (name == "3.weight") * (model.get_parameter("3.weight") ** 2).sum()

    with pytest.raises(ScoreError, match=f"^parameter '{name}' is used out of sight"):
        way(model, PLANE, value, [name for name, _ in model.named_parameters()])


def test_a_loss_that_depends_on_no_parameter_is_refused(way: Callable[..., Any]) -> None:
    model = small()
    for value in (lambda y: y.detach().sum(), lambda _: torch.zeros(())):
        with pytest.raises(ScoreError, match=r"^the loss does not depend on any trainable parameter"):
            way(model, PLANE, value, layer_parameters(model))
    with pytest.raises(ScoreError, match=r"^the loss does not depend on any trainable parameter"):
        way(model.requires_grad_(False), PLANE, torch.sum, [])


def test_no_parameters_have_no_derivatives(way: Callable[..., Any]) -> None:
    assert way(small(), PLANE, torch.sum, []) in ({}, ({}, {}))


def test_a_parameter_that_is_not_trained_may_move(way: Callable[..., Any]) -> None:
    model = small(nn.Tanh())
    expected = way(model, PLANE, lambda y: y.square().sum(), layer_parameters(model))
    model[0].requires_grad_(False)
    found = way(model, PLANE, lambda y: y.square().sum(), layer_parameters(model))
    for one, other in zip(*(r if isinstance(r, tuple) else (r,) for r in (found, expected)), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def _overwrite(x: Tensor) -> Tensor:
    y = torch.exp(x)
    y.add_(1)
    return y


def test_a_value_that_is_overwritten_although_it_is_needed_is_reported(way: Callable[..., Any]) -> None:
    model = small(Apply(_overwrite))
    with pytest.raises(ScoreError, match="the backward pass failed at the model itself: one of the variables needed"):
        way(model, PLANE, lambda y: y.square().sum(), layer_parameters(model))


def test_an_operation_that_fails_is_named(way: Callable[..., Any]) -> None:
    model = small(Apply(lambda x: x.reshape(5, 5)))
    expected = r"^the forward pass.* failed at operation 'reshape' of module '1' \(Apply\): shape"
    with pytest.raises(ScoreError, match=expected):
        way(model, PLANE, torch.sum, layer_parameters(model))


def test_lack_of_memory_stays_what_it_is(way: Callable[..., Any]) -> None:
    def fail(_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("no memory")

    model = small(Apply(fail))
    with pytest.raises(torch.OutOfMemoryError, match="no memory"):
        way(model, PLANE, torch.sum, layer_parameters(model))


def test_the_hooks_are_gone_afterwards(way: Callable[..., Any]) -> None:
    model = small(nn.Tanh())
    way(model, PLANE, lambda y: y.square().sum(), layer_parameters(model))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())

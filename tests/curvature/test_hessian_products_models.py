from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from nested import assert_same, nested, trainable
from torch import Tensor, nn

from oba.curvature import channel_gradients, channel_self_product, self_product
from oba.errors import ScoreError

PLANE = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)


class Outputs(nn.Module):
    """Returns features, and logits made of them, in any container."""

    def __init__(self, pack: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 3).double(), nn.Linear(3, 3).double()
        self.pack = pack

    def forward(self, x: Tensor) -> Any:
        features = torch.tanh(self.first(x))
        return self.pack(features, self.second(features))


CONTAINERS: dict[str, tuple[Callable[[Tensor, Tensor], Any], Callable[[Any], tuple[Tensor, Tensor]]]] = {
    "tuple": (lambda f, y: (f, y), lambda o: o),
    "list": (lambda f, y: [y, f], lambda o: (o[1], o[0])),
    "dictionary": (lambda f, y: {"f": f, "y": y}, lambda o: (o["f"], o["y"])),
    "nested": (lambda f, y: {"f": (f, torch.ones(1)), "y": [y]}, lambda o: (o["f"][0] * o["f"][1], o["y"][0])),
    "same twice": (lambda f, y: (f, y, f), lambda o: (o[0] * o[2], o[1])),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_loss_may_use_several_outputs_of_which_one_is_made_of_another(name: str) -> None:
    pack, unpack = CONTAINERS[name]
    model = Outputs(pack)

    def value(outputs: Any) -> Tensor:
        features, logits = unpack(outputs)
        return F.cross_entropy(logits, torch.tensor([0, 2, 1])) * (features**3).sum()

    assert_same(self_product(model, PLANE, value, trainable(model)), nested(model, PLANE, value))


class Packed(NamedTuple):
    features: Tensor
    logits: Tensor


@pytest.mark.parametrize(
    ("pack", "kind"),
    [(Packed, "Packed"), (lambda f, y: (f, None), "NoneType"), (lambda f, y: {"y": object()}, "object")],
)
def test_outputs_of_another_type_are_refused(pack: Callable[[Tensor, Tensor], Any], kind: str) -> None:
    model = Outputs(pack)
    with pytest.raises(ScoreError, match=f"the model returns {kind}; allowed: tensors, and lists and dictionaries"):
        self_product(model, PLANE, lambda outputs: outputs[0].sum(), trainable(model))


def test_an_ordered_dictionary_is_a_dictionary() -> None:
    model = Outputs(lambda f, y: OrderedDict(f=f, y=y))

    def value(outputs: dict[str, Tensor]) -> Tensor:
        return (outputs["f"] ** 2).sum() + outputs["y"].logsumexp(1).sum()

    assert_same(self_product(model, PLANE, value, trainable(model)), nested(model, PLANE, value))


class Cube(torch.autograd.Function):
    """Has no forward derivative, but a second one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * 3 * x**2


class Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def small(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), *layers, nn.Linear(3, 3)).double()


def test_a_loss_needs_no_forward_derivative() -> None:
    model = small(nn.Tanh())

    def value(outputs: Tensor) -> Tensor:
        return Cube.apply(outputs).sum()

    assert_same(self_product(model, PLANE, value, trainable(model)), nested(model, PLANE, value))


def test_an_operation_without_forward_derivative_is_named() -> None:
    model = small(Apply(Cube.apply))
    expected = r"the forward pass with tangents failed at operation 'Cube' of module '1' \(Apply\): You must implement"
    with pytest.raises(ScoreError, match=expected):
        self_product(model, PLANE, torch.sum, trainable(model))
    with pytest.raises(ScoreError, match=expected):
        channel_self_product(model, PLANE, torch.sum, trainable(model), {("0.weight", "out")})


def test_modules_that_cannot_be_seen_through_are_refused() -> None:
    compiled, hooked = small(nn.ReLU()), small(nn.ReLU())
    compiled[1]._compiled_call_impl = compiled[1]._call_impl  # as nn.Module.compile() does, without its slow imports
    hooked[1].register_full_backward_hook(lambda *_: None)
    computed = small(torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace(nn.ReLU(), PLANE)
        traced = small(trace)
    for model, what in (
        (compiled, r"module '1' \(ReLU\) is compiled"),
        (traced, r"module '1' \(.*\) is compiled"),
        (hooked, r"module '1' \(ReLU\) carries backward hooks"),
        (computed, r"module '1' \(ParametrizedLinear\) computes its weight"),
    ):
        with pytest.raises(ScoreError, match=what):
            self_product(model, PLANE, torch.sum, trainable(model))
        with pytest.raises(ScoreError, match=what):
            channel_self_product(model, PLANE, torch.sum, trainable(model), set())


class Smuggled(nn.Module):
    """Uses its weight where no function mode can see it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            return x * self.weight


@pytest.mark.parametrize(("inside", "outside"), [(Smuggled(), 0), (nn.Tanh(), 1)])
def test_a_parameter_used_out_of_sight_is_refused(inside: nn.Module, outside: float) -> None:
    model = small(inside, nn.Tanh())

    def value(outputs: Tensor) -> Tensor:
        return (outputs**2).sum() + outside * (model.get_parameter("3.weight") ** 2).sum()

    name = "3.weight" if outside else "1.weight"
    with pytest.raises(ScoreError, match=f"parameter '{name}' is used out of sight"):
        self_product(model, PLANE, value, trainable(model))
    with pytest.raises(ScoreError, match=f"parameter '{name}' is used out of sight"):
        channel_self_product(model, PLANE, value, trainable(model), set())


def test_a_loss_that_depends_on_no_parameter_is_refused() -> None:
    model = small()
    for value in (lambda y: y.detach().sum(), lambda y: torch.zeros(())):
        with pytest.raises(ScoreError, match="the loss does not depend on any trainable parameter"):
            self_product(model, PLANE, value, trainable(model))
    frozen = small().requires_grad_(False)
    with pytest.raises(ScoreError, match="the loss does not depend on any trainable parameter"):
        self_product(frozen, PLANE, torch.sum, trainable(frozen))


def test_no_parameters_have_no_products() -> None:
    model = small()
    assert self_product(model, PLANE, torch.sum, []) == {}
    assert channel_self_product(model, PLANE, torch.sum, [], set()) == ({}, {})
    assert channel_gradients(model, PLANE, torch.sum, [], set()) == ({}, {})


def test_what_the_loss_does_not_depend_on_has_zeros_and_no_sums() -> None:
    model = Outputs(lambda f, y: (f, y))
    found = self_product(model, PLANE, lambda outputs: (outputs[0] ** 2).sum(), trainable(model))
    assert found["first.weight"].any()
    assert not found["second.weight"].any()
    assert not found["second.bias"].any()
    wanted = {("first.weight", "out"), ("second.weight", "out")}
    sums, _ = channel_self_product(model, PLANE, lambda o: (o[0] ** 2).sum(), trainable(model), wanted)
    assert {name for name, _ in sums} == {"first.weight", "first.bias"}


def test_a_loss_that_is_linear_in_a_linear_net_has_a_product_of_zero() -> None:
    model = nn.Sequential(nn.Linear(4, 3)).double()
    assert not any(value.any() for value in self_product(model, PLANE, torch.sum, trainable(model)).values())


def test_only_what_is_asked_for_moves() -> None:
    model = small(nn.Tanh())
    found = self_product(model, PLANE, lambda y: y.square().sum(), ["2.weight"])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name == "2.weight")
    assert_same(found, nested(model, PLANE, lambda y: y.square().sum()))

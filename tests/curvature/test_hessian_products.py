from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from nested import assert_same, nested, trainable
from torch import Tensor, nn
from zoo import CASES, IDS, Member

from oba.curvature import channel_self_product, parameter_layers, self_product
from oba.errors import ScoreError
from oba.importance.slices import channel_sums
from oba.importance.state import left_as_found

PLANE = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)


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

"""Factors against explicit rows of single examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from per_example import factors, gradients, seen
from torch import Tensor, nn

from oba.curvature.grams import input_moments
from oba.curvature.kronecker import damped_inverse, filter_blocks, filters, input_factor, output_moments
from oba.curvature.unfold import MatrixLayer
from oba.errors import ModelError, ScoreError


class Net(nn.Module):
    """Every kind of call: strided, grouped, overwritten in place, on tokens, twice, and once where nobody looks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.depthwise = nn.Conv2d(4, 4, 2, groups=4, bias=False)
        self.grouped = nn.Conv2d(4, 6, 2, dilation=2, padding=1, groups=2)
        self.tokens = nn.Linear(6, 5)
        self.twice = nn.Linear(5, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(F.relu_(self.stem(x)))
        x = F.relu_(self.grouped(torch.tanh(self.depthwise(x))))
        x = torch.tanh(self.tokens(x.flatten(2).mT))
        with torch.no_grad():
            gate = torch.sigmoid(self.twice(x))
        return self.head((F.silu(self.twice(torch.sin(self.twice(x)))) * gate).mean(1))


LAYERS = ["stem", "depthwise", "grouped", "tokens", "twice", "head"]


def made(*, frozen: bool = False) -> nn.Module:
    torch.manual_seed(0)
    model = Net().double().eval()
    nn.init.uniform_(model.norm.weight, 0.5, 1.5)
    return model.requires_grad_(not frozen)


def images(sizes: tuple[int, ...] = (5, 2, 4)) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    count = sum(sizes)
    return torch.randn(count, 2, 8, 8, generator=draw).double(), torch.randint(3, (count,), generator=draw)


def batches(sizes: tuple[int, ...] = (5, 2, 4)) -> list[tuple[Tensor, Callable[[Any], Tensor]]]:
    x, y = images(sizes)
    pairs = zip(x.split(sizes), y.split(sizes), strict=True)
    return [(a, lambda outputs, b=b: F.cross_entropy(outputs, b, reduction="sum")) for a, b in pairs]


def layer(model: nn.Module, name: str) -> MatrixLayer:
    found = model.get_submodule(name)
    assert isinstance(found, MatrixLayer)
    return found


@pytest.mark.parametrize("frozen", [False, True])
def test_moments_are_means_over_single_examples(frozen: bool) -> None:
    model = made(frozen=frozen)
    found = dict(output_moments(model, batches(), LAYERS))
    inputs = dict(input_moments(model, [x for x, _ in batches()], LAYERS))
    assert list(found) == LAYERS
    for name in LAYERS:
        examples = seen(made(), name, *images(), F.cross_entropy)
        a, g = factors(examples)
        z = torch.cat([e.outputs for e in examples], 1)
        assert g.diagonal(dim1=1, dim2=2).max() > 1e-8
        torch.testing.assert_close(found[name].gradients, g, rtol=1e-10, atol=1e-18)
        torch.testing.assert_close(found[name].outputs, z.mT @ z / z.shape[1], rtol=1e-10, atol=1e-15)
        torch.testing.assert_close(input_factor(layer(model, name), inputs[name]), a, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("name", LAYERS)
def test_moments_of_outputs_are_all_that_filters_ask_of_the_inputs(name: str) -> None:
    model = made()
    [(_, outputs)] = output_moments(model, batches(), [name])
    [(_, inputs)] = input_moments(model, [x for x, _ in batches()], [name])
    theta = filters(layer(model, name))
    expected = theta @ input_factor(layer(model, name), inputs) @ theta.mT
    torch.testing.assert_close(outputs.outputs, expected, rtol=1e-10, atol=1e-15)


def test_of_a_single_example_without_positions_the_product_is_the_fisher_information() -> None:
    model = made()
    x, y = images((1,))
    [(_, outputs)] = output_moments(model, batches((1,)), ["head"])
    [(_, inputs)] = input_moments(model, [x], ["head"])
    vector = gradients(seen(model, "head", x, y, F.cross_entropy)).flatten()
    dense = torch.kron(outputs.gradients[0], input_factor(layer(model, "head"), inputs)[0])
    torch.testing.assert_close(dense, vector[:, None] * vector, rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("limits", [{"budget_bytes": 1}, {"unfold_bytes": 1}])
def test_memory_is_bounded_and_changes_nothing(limits: dict[str, int]) -> None:
    model = made()
    expected = dict(output_moments(model, batches(), LAYERS))
    for name, found in output_moments(model, batches(), LAYERS, **limits):
        torch.testing.assert_close(found.outputs, expected[name].outputs, rtol=1e-12, atol=0)
        torch.testing.assert_close(found.gradients, expected[name].gradients, rtol=1e-12, atol=0)


def test_what_does_not_fit_waits_for_another_pass() -> None:
    model, runs = made(), []
    handle = model.register_forward_hook(lambda *_: runs.append(None))
    list(output_moments(model, batches(), LAYERS))
    assert len(runs) == 3
    list(output_moments(model, batches(), LAYERS, budget_bytes=1))
    assert len(runs) == 3 + 3 * len(LAYERS)
    handle.remove()


def test_nothing_stays_behind() -> None:
    model = made()
    list(output_moments(model, batches(), LAYERS))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(vars(module)[key] for module in model.modules() for key in vars(module) if key.endswith("_hooks"))
    assert not any(x.requires_grad for x, _ in batches())


class Doubling(nn.Linear):
    """A layer that is none of its own weight."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Unused(nn.Module):
    """A net whose outputs do not depend on one of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.unused, self.head = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.unused(x)
        return self.head(x)


def test_what_has_no_factors_is_refused() -> None:
    x = torch.randn(4, 3)

    def run(model: nn.Module, name: str = "0", factor: float = 1) -> None:
        list(output_moments(model, [(x * factor, lambda outputs: outputs.sum())], [name]))

    with pytest.raises(ModelError, match=r"layer '0' \(Doubling\) does not compute W X \+ b"):
        run(nn.Sequential(Doubling(3, 2)))
    with pytest.raises(ModelError, match="layer '0' is a ReLU"):
        run(nn.Sequential(nn.ReLU()))
    with pytest.raises(ScoreError, match="no derivative of the loss reaches the outputs of layer 'unused'"):
        run(Unused(), "unused")
    with pytest.raises(ScoreError, match="the outputs of layer '0' or their derivatives are not finite"):
        run(nn.Sequential(nn.Linear(3, 2)), factor=float("inf"))


def test_blocks_of_filters_are_empty_between_groups() -> None:
    matrix = torch.arange(18.0).reshape(2, 3, 3)
    dense = torch.block_diag(*matrix)
    indices = torch.tensor([[0, 2], [1, 4], [5, 3]])
    for block, own in zip(filter_blocks(matrix, indices), indices, strict=True):
        assert torch.equal(block, dense[own][:, own])


def test_the_inverse_is_damped_by_the_mean_of_the_diagonal() -> None:
    draw = torch.Generator().manual_seed(0)
    root = torch.randn(2, 4, 2, generator=draw, dtype=torch.float64)
    factor = root @ root.mT
    for matrix, inverse in zip(factor, damped_inverse(factor, 0.1), strict=True):
        expected = torch.linalg.inv(matrix + 0.1 * matrix.trace() / 4 * torch.eye(4, dtype=torch.float64))
        torch.testing.assert_close(inverse, expected, rtol=1e-9, atol=1e-12)

"""Refitted weights against least squares on the rows themselves, and against doing nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from oba.curvature.grams import input_moments, paired_moments
from oba.curvature.moments import InputMoments, TargetMoments, own_targets
from oba.curvature.refit import damped, reconstruction_loss, refit, refit_bias
from oba.curvature.unfold import MatrixLayer, weight_matrix


def moments(x: Tensor, y: Tensor) -> tuple[InputMoments, TargetMoments]:
    """Return the moments of rows x, (groups, rows, columns), and y, (groups, rows, outputs)."""
    many = x.shape[1]
    inputs = InputMoments(x.mT @ x / many, x.mean(1), many, many)
    return inputs, TargetMoments(y.mT @ x / many, y.mean(1), y.square().mean(1))


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def bias_of(layer: MatrixLayer, weight: Tensor) -> Tensor | None:
    return None if layer.bias is None else layer.bias.detach().double().reshape(weight.shape[:2])


@pytest.mark.parametrize("damping", [0.0, 0.01, 3.0])
@pytest.mark.parametrize("with_bias", [False, True])
def test_weights_are_those_of_lstsq(with_bias, damping):
    x, y = normal(0, 2, 40, 5) + 0.5, normal(1, 2, 40, 3)
    weight, bias = normal(2, 2, 3, 5), normal(3, 2, 3) if with_bias else None
    fitted, shift = refit(*moments(x, y), weight, bias, damping)
    for g in range(2):
        strength = damping * x[g].square().mean()
        rows, wanted = x[g] / 40**0.5, y[g] / 40**0.5
        penalty = strength.sqrt() * torch.eye(5).double()
        if with_bias:
            rows = torch.cat([rows, torch.full((40, 1), 40**-0.5).double()], 1)
            penalty = torch.cat([penalty, torch.zeros(5, 1)], 1)
        system = torch.cat([rows, penalty])
        expected = torch.linalg.lstsq(system, torch.cat([wanted, strength.sqrt() * weight[g].mT])).solution.mT
        torch.testing.assert_close(fitted[g], expected[:, :5], atol=1e-6, rtol=1e-6)
        if shift is not None:
            torch.testing.assert_close(shift[g], expected[:, 5], atol=1e-6, rtol=1e-6)
    assert (shift is None) is not with_bias


def test_the_loss_is_the_mean_squared_error():
    x, y, weight, bias = normal(0, 2, 30, 4), normal(1, 2, 30, 3), normal(2, 2, 3, 4), normal(3, 2, 3)
    plain = reconstruction_loss(*moments(x, y), weight)
    torch.testing.assert_close(plain, (y - x @ weight.mT).square().mean(1))
    shifted = reconstruction_loss(*moments(x, y), weight, bias)
    torch.testing.assert_close(shifted, (y - x @ weight.mT - bias[:, None]).square().mean(1))


def test_the_bias_alone_takes_the_mean_of_what_left():
    x, weight, bias = normal(0, 1, 50, 6) + 2, normal(1, 1, 3, 6), normal(2, 1, 3)
    inputs, _ = moments(x, x)
    kept = torch.tensor([0, 2, 5])
    targets = own_targets(inputs, weight, bias).keep(kept)
    found = refit_bias(inputs.keep(kept), targets, weight[..., kept])
    gone = torch.tensor([1, 3, 4])
    torch.testing.assert_close(found, bias + (x[..., gone] @ weight[..., gone].mT).mean(1))
    before = reconstruction_loss(inputs.keep(kept), targets, weight[..., kept], bias)
    assert (reconstruction_loss(inputs.keep(kept), targets, weight[..., kept], found) < before).all()


class Mixing(nn.Module):
    """Makes channels that are linear combinations (and a constant) of the first ones of their group."""

    def __init__(self, free: int, made: int, groups: int, constant: float) -> None:
        super().__init__()
        self.mix, self.groups, self.constant = normal(9, made, free).float(), groups, constant

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (self.groups, -1))
        return torch.cat([x, torch.einsum("mf,ngf...->ngm...", self.mix, x) + self.constant], 2).flatten(1, 2)


RECOVERED = {
    "conv": (nn.Conv2d(5, 4, 3), (3, 8, 8)),
    "conv without bias": (nn.Conv2d(5, 4, 3, stride=2, bias=False), (3, 9, 9)),
    "grouped": (nn.Conv2d(10, 4, 3, groups=2), (6, 8, 8)),
    "conv1d": (nn.Conv1d(5, 2, 2, dilation=2, bias=False), (3, 20)),
    "linear": (nn.Linear(5, 6), (3,)),
    "linear without bias": (nn.Linear(5, 6, bias=False), (3,)),
}


@pytest.mark.parametrize("case", RECOVERED)
def test_removed_inputs_that_others_can_make_are_recovered(case):
    layer, shape = RECOVERED[case]
    groups = getattr(layer, "groups", 1)
    model = nn.Sequential(Mixing(3, 2, groups, 0.0 if layer.bias is None else 0.7), layer)
    x = normal(4, 40, *shape).float()
    ((_, inputs),) = input_moments(model, [x[:25], x[25:]], ["1"])
    weight = weight_matrix(layer)
    bias = bias_of(layer, weight)
    kept = torch.arange(weight.shape[-1] * 3 // 5)
    targets = own_targets(inputs, weight, bias).keep(kept)
    left = inputs.keep(kept)
    fitted, shift = refit(left, targets, weight[..., kept], bias, 0.0)
    power = targets.power.sum()
    assert reconstruction_loss(left, targets, weight[..., kept], bias).sum() > 0.05 * power
    assert reconstruction_loss(left, targets, fitted, shift).sum() < 1e-7 * power
    whole = torch.cat([fitted, torch.zeros_like(weight[..., len(kept) :])], -1)
    before = model(x).detach()
    with torch.no_grad():
        layer.weight.copy_(whole.reshape(layer.weight.shape))
        if shift is not None and layer.bias is not None:
            layer.bias.copy_(shift.flatten())
    torch.testing.assert_close(model(x).detach(), before, atol=1e-3, rtol=1e-3)


@st.composite
def problems(draw: st.DrawFn) -> tuple[MatrixLayer, Tensor, int]:
    """A small layer, few images for it (so that its Gram matrix may be singular), and how many channels stay."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inside, outside = groups * draw(st.integers(1, 4)), groups * draw(st.integers(1, 3))
    bias, images, seed = draw(st.booleans()), draw(st.integers(1, 5)), draw(st.integers(0, 99))
    if draw(st.booleans()):
        kernel, stride, padding = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 1))
        layer = nn.Conv2d(inside, outside, kernel, stride, padding, groups=groups, bias=bias)
        shape: tuple[int, ...] = (inside, 4, 4)
    else:
        layer, groups = nn.Linear(inside, outside, bias=bias), 1
        shape = draw(st.sampled_from([(inside,), (3, inside)]))
    for seeded, parameter in enumerate(layer.parameters()):
        parameter.data.copy_(normal(seed + seeded, *parameter.shape))
    x = normal(seed + 50, images, *shape).float()
    if draw(st.booleans()):
        x = x.relu()
    if draw(st.booleans()):
        x = x * 10 ** normal(seed, *x.shape[1:]).float()
    return layer, x, draw(st.integers(1, inside // groups))


@settings(max_examples=150, deadline=None)
@given(problem=problems(), damping=st.sampled_from([0.0, 1e-6, 0.01, 1.0]), changed=st.booleans())
def test_the_loss_is_never_above_that_of_doing_nothing(problem, damping, changed):
    layer, x, left = problem
    dense, current = nn.Sequential(nn.Identity(), layer), nn.Sequential(nn.Tanh() if changed else nn.Identity(), layer)
    ((_, inputs, targets),) = paired_moments(dense, current, [x], ["1"])
    weight = weight_matrix(layer)
    bias = bias_of(layer, weight)
    kept = torch.arange(weight.shape[-1] // layer.weight.shape[1] * left)
    inputs, targets, weight = inputs.keep(kept), targets.keep(kept), weight[..., kept]
    fitted, shift = refit(inputs, targets, weight, bias, damping)
    nothing = reconstruction_loss(inputs, targets, weight, bias)
    something = reconstruction_loss(inputs, targets, fitted, shift)
    assert fitted.isfinite().all()
    rounding = 1e-9 * (targets.power + (weight.square() @ inputs.gram.diagonal(dim1=1, dim2=2)[..., None])[..., 0])
    assert (something <= nothing + rounding).all()


def test_a_large_damping_changes_nothing():
    x, y, weight = normal(0, 1, 40, 5), normal(1, 1, 40, 3), normal(2, 1, 3, 5)
    fitted, _ = refit(*moments(x, y), weight, None, 1e9)
    torch.testing.assert_close(fitted, weight, atol=1e-7, rtol=0)


@pytest.mark.parametrize("with_bias", [False, True])
def test_inputs_that_are_all_zero_leave_the_weights(with_bias):
    x, y, weight = torch.zeros(1, 40, 5).double(), normal(1, 1, 40, 3), normal(2, 1, 3, 5)
    fitted, shift = refit(*moments(x, y), weight, torch.zeros(1, 3).double() if with_bias else None, 0.0)
    torch.testing.assert_close(fitted, weight)
    if shift is not None:
        torch.testing.assert_close(shift, y.mean(1))


@pytest.mark.parametrize("with_bias", [False, True])
def test_equal_inputs_share_their_weight(with_bias):
    x = normal(0, 1, 40, 1).expand(1, 40, 4)
    weight, wanted = torch.zeros(1, 1, 4).double(), 3 * x[..., :1]
    fitted, _ = refit(*moments(x, wanted), weight, torch.zeros(1, 1).double() if with_bias else None, 0.0)
    torch.testing.assert_close(fitted, torch.full((1, 1, 4), 0.75).double(), atol=1e-6, rtol=0)


def test_refitting_leaves_its_arguments_alone():
    x, y, weight, bias = normal(0, 1, 40, 5), normal(1, 1, 40, 3), normal(2, 1, 3, 5), normal(3, 1, 3)
    inputs, targets = moments(x, y)
    before = [t.clone() for t in (inputs.gram, targets.cross, weight, bias)]
    for intercept in (None, bias):
        refit(inputs, targets, weight, intercept, 0.1)
    for found, expected in zip((inputs.gram, targets.cross, weight, bias), before, strict=True):
        assert torch.equal(found, expected)


def test_damping_is_relative_to_the_mean_diagonal_of_each_group():
    gram = torch.stack([torch.diag(torch.tensor([1.0, 3.0])), torch.zeros(2, 2)]).double()
    found = damped(gram, 0.1)
    torch.testing.assert_close(found[0], torch.diag(torch.tensor([1.2, 3.2])).double())
    assert (torch.linalg.eigvalsh(found[1]) > 0).all()
    assert found[1].max() < 1e-20
    assert torch.equal(gram[1], torch.zeros(2, 2).double())

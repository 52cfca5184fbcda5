"""Moments against layers that copy their windows to their outputs; layers that have none are refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from windows import CASES, IMAGES, by_group, images, output_rows, second, unfolded

from oba.curvature.grams import input_moments, paired_moments
from oba.curvature.moments import own_targets
from oba.curvature.unfold import group_count, weight_matrix
from oba.errors import ModelError, ScoreError

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")


@pytest.mark.parametrize("unfold_bytes", [1, 2_000, 1 << 26])
@pytest.mark.parametrize("case", CASES)
def test_moments_are_those_of_the_windows(case, unfold_bytes):
    layer, shape = CASES[case]
    x = images(shape)
    model = nn.Sequential(layer)
    ((name, found),) = input_moments(model, [x[:2], x[2:]], ["0"], unfold_bytes=unfold_bytes)
    expected = unfolded(layer, x)
    assert (name, found.images, found.rows) == ("0", IMAGES, expected.shape[1])
    assert found.gram.dtype == torch.float64
    torch.testing.assert_close(found.gram, second(expected, expected))
    torch.testing.assert_close(found.mean, expected.mean(1))


@pytest.mark.parametrize("case", CASES)
def test_own_targets_are_the_moments_of_the_outputs(case):
    layer, shape = CASES[case]
    x = images(shape, seed=1)
    ((_, inputs),) = input_moments(nn.Sequential(layer), [x], ["0"])
    weight = weight_matrix(layer)
    bias = None if layer.bias is None else layer.bias.detach().double().reshape(weight.shape[:2])
    found = own_targets(inputs, weight, bias)
    rows = unfolded(layer, x)
    y = output_rows(layer, copy.deepcopy(layer).double()(x.double()).detach(), group_count(layer))
    torch.testing.assert_close(found.cross, second(y, rows))
    torch.testing.assert_close(found.mean, y.mean(1))
    torch.testing.assert_close(found.power, y.square().mean(1))


@pytest.mark.parametrize("unfold_bytes", [1, 3_000, 1 << 26])
@pytest.mark.parametrize("case", CASES)
def test_pairs_are_the_dense_outputs_with_the_current_inputs(case, unfold_bytes):
    layer, shape = CASES[case]
    dense, current = nn.Sequential(nn.Identity(), layer), nn.Sequential(nn.Tanh(), copy.deepcopy(layer))
    x = images(shape, seed=2)
    ((name, inputs, targets),) = paired_moments(dense, current, [x[:3], x[3:]], ["1"], unfold_bytes=unfold_bytes)
    rows, y = unfolded(layer, x.tanh()), output_rows(layer, layer(x).detach(), group_count(layer))
    assert name == "1"
    torch.testing.assert_close(inputs.gram, second(rows, rows))
    torch.testing.assert_close(targets.cross, second(y, rows))
    torch.testing.assert_close(targets.mean, y.mean(1))
    torch.testing.assert_close(targets.power, y.square().mean(1))


def test_pairs_of_layers_that_lost_outputs():
    conv, depthwise, linear = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Linear(4, 3)
    dense = nn.Sequential(conv, depthwise, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    left = torch.tensor([3, 1])
    current = nn.Sequential(
        nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3, groups=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    x = images((2, 7, 7))
    lost = {"0": left, "1": left, "4": left[1:].repeat(2)}
    found = {name: targets for name, _, targets in paired_moments(dense, current, [x], ["0", "1", "4"], outputs=lost)}
    hidden, mixed = current[0](x).detach(), dense[:2](x).detach()[:, left]
    torch.testing.assert_close(found["0"].cross, second(by_group(dense[0](x)[:, left].double(), 1), unfolded(conv, x)))
    torch.testing.assert_close(found["1"].cross, second(by_group(mixed.double(), 2), unfolded(current[1], hidden)))
    torch.testing.assert_close(found["4"].mean, dense(x)[:, [1, 1]].detach().double().mean(0)[None])


def test_outputs_are_taken_before_an_activation_in_place():
    dense = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True))
    x = images((2, 5, 5))
    ((_, _, targets),) = paired_moments(dense, copy.deepcopy(dense), [x], ["0"])
    torch.testing.assert_close(targets.mean, by_group(dense[0](x).detach().double(), 1).mean(1))


def test_outputs_are_the_layers_own_whatever_hooks_it_has():
    layer = nn.Conv2d(2, 3, 3)
    layer.register_forward_hook(lambda *call: torch.zeros_like(call[2]))
    x = images((2, 5, 5))
    ((_, _, targets),) = paired_moments(nn.Sequential(layer), nn.Sequential(layer), [x], ["0"])
    assert (targets.power > 0).all()
    assert len(layer._forward_hooks) == 1


def test_a_layer_that_runs_twice_adds_up():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(self.layer(x))

    model, x = Twice(), images((3,))
    ((_, inputs, targets),) = paired_moments(model, copy.deepcopy(model), [x], ["layer"])
    rows = torch.cat([x, model.layer(x).detach()]).double()[None]
    y = torch.cat([model.layer(x), model(x)]).detach().double()[None]
    assert (inputs.rows, inputs.images) == (2 * IMAGES, IMAGES)
    torch.testing.assert_close(inputs.gram, second(rows, rows))
    torch.testing.assert_close(targets.cross, second(y, rows))


@pytest.mark.parametrize("case", ["strided, padded, dilated", "linear on tokens"])
def test_channels_limit_the_columns(case):
    layer, shape = CASES[case]
    x, channels = images(shape), torch.tensor([1, 0])
    ((_, found),) = input_moments(nn.Sequential(layer), [x], ["0"], channels={"0": channels})
    ((_, everything),) = input_moments(nn.Sequential(layer), [x], ["0"])
    kernel = everything.gram.shape[-1] // layer.weight.shape[1]
    columns = (channels[:, None] * kernel + torch.arange(kernel)).flatten()
    torch.testing.assert_close(found.gram, everything.keep(columns).gram)
    torch.testing.assert_close(found.mean, everything.keep(columns).mean)


def test_kept_columns_may_differ_between_groups():
    layer, shape = CASES["grouped"]
    x = images(shape)
    ((_, inputs),) = input_moments(nn.Sequential(layer), [x], ["0"])
    targets = own_targets(inputs, weight_matrix(layer))
    columns = torch.tensor([[0, 4, 5], [7, 3, 1]])
    for g in range(2):
        torch.testing.assert_close(inputs.keep(columns).gram[g], inputs.gram[g][columns[g]][:, columns[g]])
        torch.testing.assert_close(inputs.keep(columns).mean[g], inputs.mean[g][columns[g]])
        torch.testing.assert_close(targets.keep(columns).cross[g], targets.cross[g][:, columns[g]])


def test_other_layers_are_refused_by_name():
    with pytest.raises(ModelError, match="'0' is a ConvTranspose2d; only Conv1d, Conv2d, Conv3d and Linear"):
        next(input_moments(nn.Sequential(nn.ConvTranspose2d(2, 2, 3)), [], ["0"]))


class Padding(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(input, (1, 1, 1, 1)))


class Shifting(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.roll(1, -1))


class Standardising(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight / self.weight.std(), self.bias)


@pytest.mark.parametrize("kind", [Padding, Shifting, Standardising])
def test_layers_that_compute_something_else_are_refused(kind):
    with pytest.raises(ModelError, match=rf"'0' \({kind.__name__}\) does not compute W X \+ b of its own weight"):
        next(input_moments(nn.Sequential(kind(2, 3, 3)), [images((2, 6, 6))], ["0"]))


@pytest.mark.parametrize("batches", [[], [torch.ones(2, 3)]])
def test_layers_that_do_not_run_are_named(batches):
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.idle = nn.Linear(3, 3)

        def forward(self, x):
            return x

    with pytest.raises(ModelError, match="'idle' did not run on any image"):
        next(input_moments(Idle(), batches, ["idle"]))


def test_values_that_are_not_finite_are_refused():
    layer, x = nn.Linear(3, 3), images((3,))
    broken = nn.Linear(3, 3)
    nn.init.constant_(broken.bias, torch.inf)
    with pytest.raises(ScoreError, match="inputs of layer '0' are not finite"):
        next(input_moments(nn.Sequential(layer), [x / 0], ["0"]))
    with pytest.raises(ScoreError, match="dense net's outputs of layer '0' are not finite"):
        next(paired_moments(nn.Sequential(broken), nn.Sequential(layer), [x], ["0"]))


def test_channels_of_a_grouped_layer_cannot_be_limited():
    with pytest.raises(ValueError, match="2 groups"):
        next(input_moments(nn.Sequential(CASES["grouped"][0]), [], ["0"], channels={"0": torch.tensor([0])}))

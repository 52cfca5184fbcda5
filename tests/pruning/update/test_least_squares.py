from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oba.errors import ConfigError, ModelError
from oba.pruning.cut import make_update
from oba.pruning.dependencies import find_groups
from oba.pruning.statistics import recalibrate_norms
from oba.structures import IN, OUT, Slice, StructureGroup

SIZE = (3, 8, 8)


@pytest.fixture
def without_norms(monkeypatch):
    """Leave norm statistics, so that a layer's inputs are those that it was fitted on."""
    monkeypatch.setattr("oba.pruning.update.least_squares.recalibrate_norms", lambda *_: None)


def select(layer: nn.Module, x: Tensor, positions: Tensor) -> Tensor:
    return x.index_select(-1 if isinstance(layer, nn.Linear) else 1, positions)


def calls(net, name, images) -> tuple[list[Tensor], list[Tensor]]:
    """Return what goes into a layer and what comes out of it."""
    inputs, outputs = [], []

    def keep(_layer: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        inputs.append(args[0].clone())
        outputs.append(y.clone())

    hook = net.get_submodule(name).register_forward_hook(keep)
    with torch.no_grad():
        for x, _ in images():
            net(x)
    hook.remove()
    return inputs, outputs


def loss_and_slopes(layer, xs, ys):
    """Return the mean squared error of a layer's outputs over images and positions, and its derivatives."""
    count = sum(y.numel() for y in ys) / len(layer.weight)
    with torch.enable_grad():
        loss = sum(((layer(x) - y).square().sum() for x, y in zip(xs, ys, strict=True)), torch.zeros(())) / count
        slopes = torch.autograd.grad(loss, list(layer.parameters()))
    return float(loss.detach()), dict(zip(dict(layer.named_parameters()), slopes, strict=True))


def check_fitted(cut, raw, images, inputs="after"):
    """Each layer is at the minimum of its loss with a ridge towards its old weights, and not above its old loss."""
    gains = []
    names = cut.consumers(grouped=inputs == "after")
    assert names
    for name in names:
        old, new = copy.deepcopy(raw.get_submodule(name)), cut.after.get_submodule(name)
        before, ys = calls(cut.before, name, images)
        xs = (
            calls(cut.after, name, images)[0]
            if inputs == "after"
            else [select(new, x, cut.kept(name, IN)) for x in before]
        )
        ys = [select(new, y, cut.kept(name, OUT)) for y in ys]
        start, slopes_at_start = loss_and_slopes(old, xs, ys)
        end, slopes = loss_and_slopes(new, xs, ys)
        assert end <= start * (1 + 1e-9) + 1e-20
        gains.append(start - end)
        groups = getattr(new, "groups", 1)
        steps = (new.weight - old.weight).detach().unflatten(0, (groups, -1)).flatten(1)
        pull = slopes["weight"].unflatten(0, (groups, -1)).flatten(1)
        strength = -(pull * steps).sum(1) / steps.square().sum(1).clamp_min(1e-30)
        assert (strength > 0).all() or start < 1e-20  # nothing to gain
        rest = (pull + strength[:, None] * steps).abs().max()
        assert rest <= 1e-8 * slopes_at_start["weight"].abs().max() + 1e-13
        if "bias" in slopes:
            assert slopes["bias"].abs().max() < 1e-9
    assert max(gains) > 0


@pytest.mark.usefixtures("without_norms")
@pytest.mark.parametrize("inputs", ["after", "before"])
def test_every_consumer_is_at_its_minimum(case, make_cut, calibration, inputs):
    """With ``after`` in the final net: no layer was changed after one that had been fitted to what comes out of it."""
    cut = make_cut(case.model, case.groups)
    raw = copy.deepcopy(cut.after)
    make_update("least-squares", inputs=inputs).adjust(cut, calibration)
    check_fitted(cut, raw, calibration, inputs)
    for name, parameter in raw.named_parameters():
        if name.rpartition(".")[0] not in cut.consumers(grouped=inputs == "after"):
            assert torch.equal(cut.after.get_parameter(name), parameter)


class Reversed(nn.Module):
    """A net whose layers are defined from the last to the first."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.third, self.second = nn.Linear(6, 5), nn.Conv2d(5, 6, 3), nn.Conv2d(6, 5, 3, bias=False)
        self.first = nn.Conv2d(3, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.second, self.third):
            x = torch.relu(layer(x))
        return self.head(x.mean((2, 3)))


@pytest.mark.usefixtures("without_norms")
def test_layers_are_fitted_in_the_order_in_which_they_run(make_cut, calibration):
    torch.manual_seed(0)
    model = Reversed().double().eval()
    cut = make_cut(model, find_groups(model, SIZE))
    assert list(cut.consumers()) != ["second", "third", "head"]
    raw = copy.deepcopy(cut.after)
    make_update("least-squares").adjust(cut, calibration)
    check_fitted(cut, raw, calibration)


def redundant() -> nn.Module:
    """A net whose odd channels are combinations of even ones: before a norm and a ReLU copies of them."""
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(8, 6, 1), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.Tanh()]
    model = nn.Sequential(*layers, nn.Linear(8, 5)).double().eval()
    with torch.no_grad():
        for number in (0, 3, 6, 9):
            layer: Any = model[number]
            layer.weight[1::2] = layer.weight[::2]
            if layer.bias is not None:
                layer.bias[1::2] = layer.bias[::2]
        linear: Any = model[5]  # nothing between it and its consumer: any combination will do
        linear.weight[1::2] = 0.5 * linear.weight[::2] - 2 * linear.weight[::2].roll(1, 0)
        linear.bias[1::2] = torch.randn(3).double()
    return model


@pytest.mark.parametrize("inputs", ["after", "before"])
def test_what_the_kept_inputs_can_say_is_recovered(make_cut, calibration, inputs):
    model = redundant()
    recalibrate_norms(model, calibration)
    groups = find_groups(model, SIZE)
    assert [group.name for group in groups] == ["0", "3", "5", "6", "9"]
    cut = make_cut(model, groups)
    images = torch.cat([x for x, _ in calibration()])
    expected = model(images)
    assert (cut.after(images) - expected).abs().max() > 0.01
    make_update("least-squares", inputs=inputs, damping=0).adjust(cut, calibration)
    torch.testing.assert_close(cut.after(images), expected, rtol=1e-4, atol=1e-4)


def test_a_large_damping_changes_nothing(zoo, make_cut, calibration):
    case = zoo("plain-flatten")
    cut = make_cut(case.model, case.groups)
    raw = copy.deepcopy(cut.after)
    make_update("least-squares", damping=1e12).adjust(cut, calibration)
    for name, parameter in raw.named_parameters():
        if name.endswith("weight"):
            torch.testing.assert_close(cut.after.get_parameter(name), parameter, rtol=1e-9, atol=1e-9)


class Doubling(nn.Conv2d):
    """A convolution that is none of its own weight."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


@pytest.mark.parametrize("inputs", ["after", "before"])
def test_a_layer_that_cannot_be_refitted_is_refused(make_cut, calibration, inputs):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Doubling(4, 2, 3), nn.Flatten(), nn.Linear(32, 5)).double()
    rows = ((0,), (1,), (2,), (3,))
    cut = make_cut(model, [StructureGroup("0", (Slice("0", OUT, rows), Slice("1", IN, rows)))])
    with pytest.raises(ModelError, match=r"layer '1' \(Doubling\) does not compute W X \+ b"):
        make_update("least-squares", inputs=inputs).adjust(cut, calibration)


def test_options_are_checked():
    with pytest.raises(ConfigError, match=r"update 'least-squares': damping: got -1; allowed: greater than or equal"):
        make_update("least-squares", damping=-1)
    with pytest.raises(ConfigError, match=r"allowed: 'after' or 'before'"):
        make_update("least-squares", inputs="both")

"""Steps of kept filters against quadratic programmes with the dense Fisher matrix of each layer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oba.curvature.grams import input_moments
from oba.curvature.kronecker import input_factor, output_moments
from oba.errors import ConfigError, ModelError, ScoreError
from oba.pruning.cut import make_update
from oba.structures import IN, OUT, Slice, StructureGroup

DAMPING = 0.05
BOTH = ["kron-obs", "c-obs"]


def damped(matrix: Tensor, strength: float = DAMPING) -> Tensor:
    return matrix + strength * matrix.diagonal().mean() * torch.eye(len(matrix), dtype=torch.float64)


def theta(layer: Any) -> Tensor:
    weight = layer.weight.detach().flatten(1)
    return weight if layer.bias is None else torch.cat([weight, layer.bias.detach()[:, None]], 1)


def layer_factors(model, layer, images) -> tuple[Tensor, Tensor]:
    """Return A and G of a layer with one group, which are tested by themselves."""
    losses = [(x, lambda outputs, y=y: F.cross_entropy(outputs, y, reduction="sum")) for x, y in images()]
    [(_, outputs)] = output_moments(model.eval(), losses, [layer])
    [(_, inputs)] = input_moments(model, [x for x, _ in images()], [layer])
    return input_factor(model.get_submodule(layer), inputs)[0], outputs.gradients[0]


def best_step(fisher: Tensor, change: Tensor, fixed: Tensor) -> Tensor:
    """Minimise the quadratic form where some coordinates change as given and the others freely."""
    step = torch.where(fixed, change, torch.zeros_like(change)).flatten()
    fixed = fixed.flatten()
    step[~fixed] = -torch.linalg.solve(fisher[~fixed][:, ~fixed], fisher[~fixed][:, fixed] @ step[fixed])
    return step.view_as(change)


def together(weights: Tensor, gone: Tensor, a: Tensor, g: Tensor) -> Tensor:
    fixed = torch.zeros_like(weights, dtype=torch.bool)
    fixed[gone] = True
    return best_step(torch.kron(damped(g), damped(a, 1e-6)), -weights, fixed)


def one_by_one(weights: Tensor, gone: Tensor, a: Tensor, g: Tensor) -> Tensor:
    fisher, total = torch.kron(damped(g), damped(a)), torch.zeros_like(weights)
    for i in gone.tolist():
        for k in range(weights.shape[1]):
            fixed = torch.zeros_like(weights, dtype=torch.bool)
            fixed[i, k] = True
            total += best_step(fisher, -weights, fixed)
    return total


@pytest.mark.parametrize(("update", "solve"), [("kron-obs", together), ("c-obs", one_by_one)])
@pytest.mark.parametrize("name", ["plain-flatten", "batch-norm", "residual-streams", "halves"])
def test_kept_filters_take_the_best_step(update, solve, name, zoo, make_cut, calibration):
    """Of every layer that lost filters, inputs that went included; the other layers stay as they are."""
    case = zoo(name)
    cut = make_cut(case.model, case.groups)
    raw = copy.deepcopy(cut.after)
    make_update(update, damping=DAMPING, labels="given").adjust(cut, calibration)
    moved = {layer for layer, axis in cut.plan.axes if axis == OUT}
    # The dense matrix of a wide layer has too many steps of single weights.
    solved = {layer for layer in moved if solve is together or theta(cut.before.get_submodule(layer)).numel() < 250}
    assert solved
    for layer in solved:
        before, after = cut.before.get_submodule(layer), cut.after.get_submodule(layer)
        weights, kept = theta(before), cut.kept(layer, OUT)
        gone = torch.tensor([i for i in range(len(weights)) if i not in kept])
        step = solve(weights, gone, *layer_factors(cut.before, layer, calibration))
        expected = weights + step
        assert step[kept].abs().max() > 1e-4
        columns = torch.arange(before.weight[0].numel()).reshape(before.weight.shape[1], -1)
        columns = columns[cut.kept(layer, IN)].flatten()
        torch.testing.assert_close(after.weight.detach().flatten(1), expected[kept][:, columns], rtol=1e-5, atol=1e-8)
        if after.bias is not None:
            torch.testing.assert_close(after.bias.detach(), expected[kept, -1], rtol=1e-5, atol=1e-8)
    for key, parameter in raw.named_parameters():
        if key.rpartition(".")[0] not in moved:
            assert torch.equal(cut.after.get_parameter(key), parameter)


ROWS = ((0,), (1,), (2,), (3,))


def twins() -> nn.Module:
    """Return a net whose last two inner channels are read alike, and linearly."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    with torch.no_grad():
        model.get_submodule("1").weight[:, 3] = model.get_submodule("1").weight[:, 2]  # pyright: ignore
    return model.eval()


GROUP = StructureGroup("0", (Slice("0", OUT, ROWS), Slice("1", IN, ROWS)))


def test_what_another_filter_can_say_is_recovered(make_cut, calibration):
    """Channels that the loss cannot tell apart add up."""
    model = twins()
    cut = make_cut(model, [GROUP], {"0": [3]})
    images = torch.cat([x for x, _ in calibration()])
    expected = model(images)
    assert (cut.after(images) - expected).abs().max() > 0.01
    make_update("kron-obs", damping=0).adjust(cut, calibration)
    torch.testing.assert_close(cut.after(images), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        cut.after.get_submodule("0").weight[2], model.get_submodule("0").weight[2:].sum(0), rtol=1e-5, atol=1e-5
    )  # fmt: skip


@pytest.mark.parametrize("update", BOTH)
def test_grouped_convolutions_stay(update, zoo, make_cut, calibration):
    case = zoo("multiplier")
    cut = make_cut(case.model, case.groups)
    grouped = [n for n, m in cut.after.named_modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    raw = copy.deepcopy(cut.after)
    make_update(update).adjust(cut, calibration)
    assert [name for name in grouped if (name, OUT) in cut.plan.axes]
    for name in grouped:
        assert torch.equal(cut.after.get_submodule(name).weight, raw.get_submodule(name).weight)


@pytest.mark.parametrize("update", BOTH)
def test_the_step_does_not_change_from_one_time_to_the_next(update, make_cut, calibration):
    first, again = (make_cut(twins(), [GROUP]) for _ in range(2))
    for cut in (first, again):
        make_update(update).adjust(cut, calibration)
    for key, parameter in first.after.named_parameters():
        assert torch.equal(parameter, again.after.get_parameter(key))


def test_classes_are_drawn_or_given(make_cut, calibration):
    drawn, given = (make_cut(twins(), [GROUP], {"0": [0]}) for _ in range(2))
    make_update("kron-obs").adjust(drawn, calibration)
    make_update("kron-obs", labels="given").adjust(given, calibration)
    assert not torch.equal(drawn.after.get_parameter("0.weight"), given.after.get_parameter("0.weight"))


class Doubling(nn.Conv2d):
    """A convolution that is none of its own weight."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


@pytest.mark.parametrize("update", BOTH)
def test_what_cannot_be_moved_is_refused(update, make_cut, calibration):
    model = twins()
    model[0] = Doubling(3, 4, 3).double()
    with pytest.raises(ModelError, match=r"layer '0' \(Doubling\) does not compute W X \+ b"):
        make_update(update).adjust(make_cut(model, [GROUP]), calibration)
    model = twins()
    model.insert(2, nn.BatchNorm2d(5, track_running_stats=False).double())
    with pytest.raises(ScoreError, match=f"update '{update}' needs examples that do not depend on each other, but '2'"):
        make_update(update).adjust(make_cut(model, [GROUP]), calibration)
    with pytest.raises(ConfigError, match=rf"update '{update}': damping: got -1; allowed: greater than or equal"):
        make_update(update, damping=-1)

"""The quick ways of ``oba-exact`` and ``taylor``, and nested differentiation where they do not lead."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scoring import own, raw_scores
from torch import Tensor, nn
from zoo import CASES, IDS, ZOO, Member

from oba.curvature import parameter_layers
from oba.errors import ScoreError
from oba.importance import parameter_scores
from oba.importance.batches import Batch
from oba.importance.criterion import make_criterion
from oba.importance.slices import channel_sums
from oba.importance.state import left_as_found
from oba.structures import Slice, StructureGroup


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


class Power(nn.Module):
    """The third power, by a custom function or not."""

    def __init__(self, custom: bool) -> None:
        super().__init__()
        self.custom = custom

    def forward(self, x: Tensor) -> Tensor:
        return Cube.apply(x) if self.custom else x**3


def net(custom: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), Power(custom), nn.Linear(3, 3)).double()


MEMBER = Member("net", net, (4,))
GROUP = StructureGroup("0", tuple(Slice(n, a, ((0,), (1,), (2,))) for n, a in (("0", "out"), ("2", "in"))))


@pytest.mark.parametrize("criterion", ["taylor", "oba-exact"])
@pytest.mark.parametrize("obstacle", ["custom function", "backward hook", "loss out of sight"])
def test_a_model_that_cannot_be_seen_through_has_the_same_scores(criterion: str, obstacle: str) -> None:
    plain, other = net(), net(custom=obstacle == "custom function")
    if obstacle == "backward hook":
        other[1].register_full_backward_hook(lambda *_: None)

    def of(model: nn.Module) -> Any:
        extra = model.get_parameter("2.weight")
        # The same penalty, of a parameter that is used where it is not seen, and of one that is computed.
        return lambda y, t: F.cross_entropy(y, t) + (extra**4).sum() * (obstacle == "loss out of sight")

    batches = [MEMBER.batch(4, seed) for seed in range(2)]
    expected = parameter_scores(plain, batches, criterion, loss=of(plain))
    found = parameter_scores(other, batches, criterion, loss=of(other))
    for name, score in expected.items():
        assert score.abs().max() > 1e-6
        torch.testing.assert_close(found[name], score, rtol=1e-9, atol=1e-14)
    by_group = raw_scores(plain, [GROUP], batches, criterion, loss=of(plain))["0"]
    torch.testing.assert_close(
        raw_scores(other, [GROUP], batches, criterion, loss=of(other))["0"], by_group, rtol=1e-9, atol=1e-14
    )
    summed = expected["0.weight"].sum(1) + expected["0.bias"], expected["2.weight"].sum(0)
    torch.testing.assert_close(by_group, (summed[0].abs() + summed[1].abs()) / 2, rtol=1e-9, atol=1e-14)


def test_a_quick_way_that_failed_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fail(*_arguments: object) -> None:
        tried.append(1)
        raise ScoreError("no way")

    batches = [MEMBER.batch(4, seed) for seed in range(3)]
    expected = parameter_scores(net(), batches, "oba-exact")
    channels = raw_scores(net(), [GROUP], batches, "oba-exact")["0"]
    monkeypatch.setattr("oba.importance.expansion.self_product", fail)
    found = parameter_scores(net(), batches, "oba-exact")
    assert len(tried) == 1
    for name, score in expected.items():
        torch.testing.assert_close(found[name], score, rtol=1e-10, atol=1e-14)
    monkeypatch.setattr("oba.importance.expansion._CHANNELS", {2: fail})
    torch.testing.assert_close(raw_scores(net(), [GROUP], batches, "oba-exact")["0"], channels)
    assert len(tried) == 2


def test_quick_ways_are_what_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise AssertionError("nested differentiation was used")

    monkeypatch.setattr("oba.importance.expansion.nested_gradient", fail)
    batch = MEMBER.batch()
    assert parameter_scores(net(), [batch], "oba-exact")
    for criterion in ("oba-exact", "taylor"):
        assert raw_scores(net(), [GROUP], [batch], criterion)["0"].any()
    with pytest.raises(AssertionError, match="nested differentiation was used"):
        raw_scores(net(), [GROUP], [batch], "oba-exact", order=3)


@pytest.mark.parametrize(("member", "norm"), CASES, ids=IDS)
@pytest.mark.parametrize(("criterion", "order"), [("taylor", 1), ("oba-exact", 1), ("oba-exact", 2)])
def test_scores_of_channels_are_sums_of_scores_of_parameters(
    member: Member, norm: str, criterion: str, order: int
) -> None:
    model, batch = member.make(), Batch(0, *member.batch(), F.cross_entropy)
    scorer = make_criterion(criterion, **own(criterion, order=order))
    pairs = [(name, axis) for name in parameter_layers(model) for axis in ("out", "in")]
    with left_as_found(model, norm):
        found = scorer.channel_scores(model, pairs, batch)
        expected = channel_sums(model, scorer.parameter_scores(model, batch), pairs)
    assert found.keys() == expected.keys()
    largest = max(float(e.abs().max()) for e in expected.values())
    for key, value in expected.items():
        assert found[key].dtype == torch.float64
        assert (found[key] - value).abs().max() <= 1e-9 * value.abs().max() + 1e-13 * largest, key


@pytest.mark.parametrize("criterion", ["taylor", "oba-exact"])
def test_frozen_layers_have_no_sums(criterion: str) -> None:
    member = next(m for m in ZOO if m.name == "frozen")
    model, batch = member.make(), Batch(0, *member.batch(), F.cross_entropy)
    with left_as_found(model, "eval"):
        pairs = [(layer, axis) for layer in ("0", "3", "7") for axis in ("out", "in")]
        found = make_criterion(criterion).channel_scores(model, pairs, batch)
    # Of the second convolution only the bias is frozen.
    assert set(found) == {(layer, axis) for layer in ("3", "7") for axis in ("out", "in")}

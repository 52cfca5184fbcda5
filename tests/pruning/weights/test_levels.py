"""Levels of single weights: rounds, composed masks, exact records; what may go and what stays."""

from __future__ import annotations

import copy
import itertools
import math
from typing import get_args

import pytest
import torch
from torch import nn

import oba
from oba.config import Descent
from oba.errors import BudgetError, ConfigError, ModelError
from oba.models import build_model
from oba.models.weight_masks import apply_masks
from oba.pruning.cut import make_update
from oba.pruning.descent import DESCENTS
from oba.pruning.weights.levels import WeightSteps, emptied_layers, mask_to_level
from oba.pruning.weights.problem import make_weight_allocation
from oba.pruning.weights.prunable import count_weights, prunable_weights, whole_masks

SIZE = (1, 8, 8)


@pytest.fixture
def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model("resnet8x0.25", num_classes=4, input_size=SIZE).eval()


def images():
    draw = torch.Generator().manual_seed(5)
    for size in (6, 5):
        yield torch.randn(size, *SIZE, generator=draw), torch.arange(size) % 4


def magnitude(model, masks):
    return {name: model.get_parameter(name).detach().abs() for name in masks}


def at_random(model, masks):
    return {name: torch.rand(mask.shape) for name, mask in masks.items()}


def to_level(model, keep, masks=None, *, score=magnitude, allocation="global", update="norm", **how):
    how = {"rounds": 2, "descent": "linear"} | how
    steps = WeightSteps(make_weight_allocation(allocation), make_update(update), **how)
    return mask_to_level(model, masks or whole_masks(model), score=score, steps=steps, images=images, keep=keep)


def test_a_level_is_met_and_recorded(net):
    dense = copy.deepcopy(net)
    seen = []

    def score(model, masks):
        seen.append({name: model.get_parameter(name).detach().clone() for name in masks})
        return magnitude(model, masks)

    masks, records = to_level(net, 0.3, rounds=3, score=score)
    total = sum(mask.numel() for mask in masks.values())
    assert sum(count_weights(masks).kept.values()) == math.floor(0.3 * total)
    assert [r.keep for r in records] == pytest.approx([1 - 0.7 * i / 3 for i in (1, 2, 3)])
    assert sum(r.removed for r in records) == total - math.floor(0.3 * total)
    assert records[-1].weights_kept == count_weights(masks).fraction
    assert records[-1].kept == count_weights(masks).kept
    assert {r.macs_kept for r in records} == {1.0}
    assert records[1].loss_before == records[0].loss_after
    for name, mask in masks.items():
        assert torch.equal(net.get_parameter(name), dense.get_parameter(name) * mask)
    others = {name for name, _ in net.named_parameters()} - masks.keys()
    assert others
    for name in others:
        assert torch.equal(net.get_parameter(name), dense.get_parameter(name)), "biases and norms stay"
    zeros = [sum(int((w == 0).sum()) for w in weights.values()) for weights in seen]
    assert zeros[0] == 0
    assert zeros == [sum(r.removed for r in records[:i]) for i in range(3)], "each round scores what the last one left"


def test_masks_compose_over_levels(net):
    first, _ = to_level(net, 0.6)
    second, records = to_level(net, 0.2, first, score=at_random)
    assert records[0].keep == pytest.approx((count_weights(first).fraction + 0.2) / 2)
    for name, mask in second.items():
        assert not (mask & ~first[name]).any()
        assert not net.get_parameter(name)[~mask].any()


def test_a_level_of_1_changes_nothing_but_statistics(net):
    dense = copy.deepcopy(net)
    masks, records = to_level(net, 1.0)
    assert all(mask.all() for mask in masks.values())
    assert [r.removed for r in records] == [0, 0]
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, dense.get_parameter(name))


def test_an_emptied_layer_is_named_and_the_net_still_runs(net):
    def spare_conv1(model, masks):
        return {name: s * (0 if name == "layer1.0.conv1.weight" else 1) for name, s in magnitude(model, masks).items()}

    masks, records = to_level(net, 0.5, score=spare_conv1, rounds=1)
    size = masks["layer1.0.conv1.weight"].numel()
    assert emptied_layers(masks) == [f"layer 'layer1.0.conv1' keeps none of its {size} weights"]
    assert records[0].kept["layer1.0.conv1.weight"] == 0
    assert records[0].loss_after is not None
    assert emptied_layers(whole_masks(net)) == []


@pytest.mark.parametrize("update", ["none", "norm"])
def test_updates_change_statistics_at_most(net, update):
    before = {name: b.clone() for name, b in net.named_buffers()}
    to_level(net, 0.5, update=update)
    changed = any(not torch.equal(b, before[name]) for name, b in net.named_buffers())
    assert changed == (update == "norm")


def test_a_level_that_cannot_be_reached_is_refused_before_anything_is_scored(net):
    def score(model, masks):
        raise AssertionError("scored")

    with pytest.raises(BudgetError, match="allocation 'n-m' keeps 2 of every 4"):
        to_level(net, 0.3, allocation="n-m", score=score)


@pytest.mark.parametrize(
    ("descent", "expected"),
    [
        ("linear", [0.8, 0.6, 0.4, 0.2]),
        ("exponential", [0.2**0.25, 0.2**0.5, 0.2**0.75, 0.2]),
        ("cubic", [0.2 + 0.8 * (1 - r / 4) ** 3 for r in (1, 2, 3)] + [0.2]),
    ],
)
def test_the_rounds_of_a_level_step_down_as_asked(net, descent, expected):
    assert [DESCENTS[descent](1.0, 0.2, r / 4) for r in (1, 2, 3, 4)] == pytest.approx(expected)
    _, records = to_level(net, 0.2, rounds=4, descent=descent)
    assert [r.keep for r in records] == pytest.approx(expected)


def test_a_study_may_name_every_descent():
    assert DESCENTS.keys() == {*get_args(Descent)}


def test_exponential_rounds_keep_the_same_fraction_of_what_is_left():
    aims = [DESCENTS["exponential"](0.6, 0.1, r / 5) for r in range(6)]
    ratios = [b / a for a, b in itertools.pairwise(aims)]
    assert ratios == pytest.approx([(0.1 / 0.6) ** 0.2] * 5)


class Mixed(nn.Module):
    """A layer of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.embed = nn.Embedding(3, 8)
        self.head = nn.Linear(8, 2)


def test_weights_of_layers_may_go_and_nothing_else():
    net = Mixed()
    assert list(prunable_weights(net)) == [
        "conv.weight", "attention.in_proj_weight", "attention.out_proj.weight", "head.weight",
    ]  # fmt: skip
    assert list(prunable_weights(net, ["head", "attention.out*"])) == ["conv.weight", "attention.in_proj_weight"]
    assert list(prunable_weights(net, ["attention"])) == ["conv.weight", "head.weight"]


def test_what_names_nothing_or_everything_is_refused():
    with pytest.raises(ConfigError, match=r"structures\.ignore: 'hed' matches no layer of Mixed; near names: head"):
        prunable_weights(Mixed(), ["hed"])
    with pytest.raises(ModelError, match="Mixed has no weight that may go; allowed: Conv, Linear and attention"):
        prunable_weights(Mixed(), ["*"])


def test_five_lines_for_single_weights(net, tmp_path):
    method = {"criterion": "magnitude", "granularity": "weights", "allocation": "uniform", "rounds": 1}
    dense = copy.deepcopy(net)
    sparse = oba.prune(net, list(images()), keep=0.25, method=method, ignore=["fc"], save=tmp_path)
    kept = {name: (sparse.get_parameter(name) != 0).float().mean().item() for name in prunable_weights(net, ["fc"])}
    assert all(abs(fraction - 0.25) < 0.01 for fraction in kept.values())
    assert torch.equal(sparse.get_parameter("fc.weight"), net.get_parameter("fc.weight"))
    assert all(torch.equal(p, dense.get_parameter(name)) for name, p in net.named_parameters())
    again = oba.load_pruned(tmp_path, net)
    assert all(torch.equal(p, sparse.get_parameter(name)) for name, p in again.named_parameters())


def test_masks_are_applied_exactly(net):
    masks = {"fc.weight": torch.zeros_like(net.get_parameter("fc.weight"), dtype=torch.bool)}
    with torch.no_grad():
        net.get_parameter("fc.weight").fill_(float("nan"))
    apply_masks(net, masks)
    assert not net.get_parameter("fc.weight").any()

from __future__ import annotations

import pytest
import torch
from torch import nn

from oba.errors import ScoreError
from oba.importance.slices import channel_sums, channels_of, groups_of, layer_slices
from oba.structures import Slice, StructureGroup

LAYERS = {
    "linear": nn.Linear(6, 4),
    "conv": nn.Conv2d(6, 4, 3),
    "no_bias": nn.Conv1d(6, 4, 3, bias=False),
    "grouped": nn.Conv2d(6, 4, (3, 2), groups=2),
    "depthwise": nn.Conv2d(6, 6, 3, groups=6),
    "multiplied": nn.Conv2d(3, 6, 3, groups=3),
}
MODEL = nn.ModuleDict(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_sums_over_channels_are_those_of_a_loop(name: str) -> None:
    layer = LAYERS[name]
    generator = torch.Generator().manual_seed(0)
    scores = {n: torch.randn(p.shape, generator=generator) for n, p in MODEL.named_parameters()}
    weight, bias = scores[f"{name}.weight"].double(), scores.get(f"{name}.bias")
    groups = groups_of(layer)
    inputs, outputs = channels_of(layer, "in"), channels_of(layer, "out")
    out = [weight[o].sum() + (0 if bias is None else bias[o].double()) for o in range(outputs)]
    per_in, per_out = inputs // groups, outputs // groups
    into = []
    for i in range(inputs):
        rows = range(i // per_in * per_out, (i // per_in + 1) * per_out)
        into.append(sum(weight[row, i % per_in].sum() for row in rows))
    found = channel_sums(MODEL, scores, [(name, "out"), (name, "in")])
    torch.testing.assert_close(found[name, "out"], torch.stack(out), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[name, "in"], torch.stack(into), rtol=1e-12, atol=1e-12)
    assert found[name, "out"].dtype == torch.float64


def test_missing_scores_are_left_out() -> None:
    ones = {"linear.bias": torch.ones(4)}
    found = channel_sums(MODEL, ones, [("linear", "out"), ("linear", "in"), ("conv", "out")])
    assert list(found) == [("linear", "out")]
    assert found["linear", "out"].tolist() == [1, 1, 1, 1]


def test_a_shared_weight_is_found_under_its_first_name() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    model["b"].weight = model["a"].weight
    found = channel_sums(model, {"a.weight": torch.ones(2, 2)}, [("b", "in")])
    assert found["b", "in"].tolist() == [2, 2]


def group(layer: str, axis: str, *rows: tuple[int, ...]) -> StructureGroup:
    return StructureGroup("g", (Slice(layer, axis, rows),))


def test_slices_of_layers_are_kept_and_those_of_norms_are_not() -> None:
    both = StructureGroup("g", (Slice("conv", "out", ((0,), (1,))), Slice("norm", "feature", ((0,), (1,)))))
    (found,) = layer_slices(MODEL, both)
    assert (found.layer, found.axis, found.indices.tolist()) == ("conv", "out", [[0], [1]])


@pytest.mark.parametrize("layer", ["missing", "norm", "transposed"])
def test_layers_of_other_kinds_are_refused(layer: str) -> None:
    model = nn.ModuleDict({"norm": nn.BatchNorm2d(2), "transposed": nn.ConvTranspose2d(2, 2, 1)})
    with pytest.raises(ScoreError, match=f"group 'g': layer '{layer}' cannot be scored; allowed: Conv and Linear"):
        layer_slices(model, group(layer, "out", (0,)))


@pytest.mark.parametrize(("axis", "size", "index"), [("out", 4, 4), ("in", 6, 6), ("in", 6, -1)])
def test_an_index_out_of_range_is_refused(axis: str, size: int, index: int) -> None:
    with pytest.raises(ScoreError, match=f"'grouped' has {size} {axis} channels; index {index} is out of range"):
        layer_slices(MODEL, group("grouped", axis, (0,), (index,)))

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from nested import assert_same, nested, trainable
from zoo import CASES, IDS, Member

from oba.curvature import channel_self_product, parameter_layers, self_product
from oba.importance.slices import channel_sums
from oba.importance.state import left_as_found


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

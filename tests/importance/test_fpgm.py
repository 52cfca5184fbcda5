from __future__ import annotations

import math

import pytest
import torch
from scoring import raw_scores
from torch import Tensor, nn

from oba.errors import ScoreError
from oba.importance import parameter_scores
from oba.structures import Slice, StructureGroup

ROWS = tuple((i,) for i in range(5))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 6, 1), nn.Flatten(), nn.Linear(6, 5)
    return nn.Sequential(*layers).double()


def naive(weight: Tensor) -> list[float]:
    filters = [row.flatten().tolist() for row in weight.detach()]
    return [sum(math.dist(one, other) for other in filters) for one in filters]


def group(*slices: tuple[str, str]) -> StructureGroup:
    return StructureGroup("g", tuple(Slice(layer, axis, ROWS) for layer, axis in slices))


@pytest.mark.parametrize("layer", ["0", "4"])
def test_scores_are_summed_distances_to_the_filters_of_the_layer(layer: str) -> None:
    model = net()
    found = raw_scores(model, [group((layer, "out"))], [], "fpgm")["g"]
    assert found.tolist() == pytest.approx(naive(model.get_parameter(f"{layer}.weight")), rel=1e-12)


def test_input_channels_and_norms_have_no_score() -> None:
    model = net()
    alone = raw_scores(model, [group(("0", "out"))], [], "fpgm")["g"]
    coupled = raw_scores(model, [group(("0", "out"), ("1", "feature"), ("2", "in"))], [], "fpgm")["g"]
    assert torch.equal(coupled, alone)
    both = raw_scores(model, [group(("0", "out"), ("4", "out"))], [], "fpgm")["g"]
    other = raw_scores(model, [group(("4", "out"))], [], "fpgm")["g"]
    torch.testing.assert_close(both, (alone + other) / 2, rtol=1e-12, atol=0)
    with pytest.raises(ScoreError, match="group 'g': none of its layers has a score by this criterion"):
        raw_scores(model, [group(("2", "in"))], [], "fpgm")
    with pytest.raises(ScoreError, match="criterion 'fpgm' scores structures, not parameters"):
        parameter_scores(model, [], "fpgm")


def test_a_structure_of_several_filters_adds_them_up() -> None:
    model = net()
    each = naive(model.get_parameter("2.weight"))
    pairs = StructureGroup("g", (Slice("2", "out", ((0, 3), (1, 4), (2, 5))),))
    found = raw_scores(model, [pairs], [], "fpgm")["g"]
    assert found.tolist() == pytest.approx([each[i] + each[i + 3] for i in range(3)], rel=1e-12)


def test_filters_that_are_alike_are_at_no_distance() -> None:
    model = net()
    with torch.no_grad():
        # Large and nearly equal: distances by products of filters would cancel.
        weight = model.get_parameter("0.weight")
        weight.copy_(torch.full_like(weight, 1e4))
        weight[4, 0, 0, 0] += 1e-3
    found = raw_scores(model, [group(("0", "out"))], [], "fpgm")["g"]
    assert found.tolist() == pytest.approx([1e-3] * 4 + [4e-3], rel=1e-6)

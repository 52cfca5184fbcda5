from __future__ import annotations

import copy

import pytest
import torch
from scoring import raw_scores
from torch import nn

from oba.importance import parameter_scores
from oba.structures import Slice, StructureGroup

MODEL = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1, bias=False)).requires_grad_(False)
GROUP = StructureGroup("0", (Slice("0", "out", ((0,), (1,), (2,))), Slice("2", "in", ((0,), (1,), (2,)))))


def test_scores_are_absolute_values_or_squares_of_all_parameters() -> None:
    absolute = parameter_scores(MODEL, [], "magnitude")
    square = parameter_scores(MODEL, [], "magnitude", magnitude="l2")
    assert absolute.keys() == square.keys() == dict(MODEL.named_parameters()).keys()
    for name, parameter in MODEL.named_parameters():
        assert torch.equal(absolute[name], parameter.abs())
        assert torch.equal(square[name], parameter.square())


@pytest.mark.parametrize("training", [False, True])
def test_structures_add_them_up_in_every_mode(training: bool) -> None:
    first, second = MODEL[0], MODEL[2]
    rows = torch.stack([first.weight.abs().sum((1, 2, 3)) + first.bias.abs(), second.weight.abs().sum((0, 2, 3))])
    model = copy.deepcopy(MODEL).train(training)
    found = raw_scores(model, [GROUP], [], "magnitude")
    torch.testing.assert_close(found["0"], rows.mean(0).double())
    squares = raw_scores(model, [GROUP], [], "magnitude", magnitude="l2", over_layers="sum")
    expected = first.weight.square().sum((1, 2, 3)) + first.bias.square() + second.weight.square().sum((0, 2, 3))
    torch.testing.assert_close(squares["0"], expected.double())

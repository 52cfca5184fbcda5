"""Parts of a split: what an index map of Torch-Pruning's graph must do with positions."""

from __future__ import annotations

import pytest
import torch

from oba.pruning.split_ops import Position, _offsets, _Part


def test_a_part_maps_there_and_back():
    positions = [Position(i, 10 + i) for i in range(6)]
    there, back = _Part(2, 5, False), _Part(2, 5, True)
    assert there(positions) == [Position(0, 12), Position(1, 13), Position(2, 14)]
    assert back(there(positions)) == positions[2:5]


@pytest.mark.parametrize(
    ("shape", "arguments", "expected"),
    [
        ((1, 6, 2, 2), (3, 1), [0, 3, 6]),
        ((1, 7, 2, 2), (3, 1), [0, 3, 6, 7]),
        ((1, 6, 2, 2), ([1, 5], 1), [0, 1, 6]),
        ((1, 6, 2, 2), (1, 2), None),
        ((1, 5, 4), (2, -1), [0, 2, 4]),
        ((1, 5, 4), (5, 1), None),
        ((1, 4), (2, -1), [0, 2, 4]),
    ],
)
def test_offsets(shape, arguments, expected):
    part = torch.zeros(shape, requires_grad=True).split(*arguments)[0]
    assert _offsets(part.grad_fn) == expected

"""Channels are followed through views and permutations, or known to be lost."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oba.pruning.dependencies import find_groups, find_structures

SIZE = (3, 8, 8)


class _Between(nn.Module):
    """A convolution and a layer, with a change of shape in between."""

    def __init__(self, change, layer):
        super().__init__()
        self.conv, self.change, self.layer, self.head = nn.Conv2d(3, 6, 1), change, layer, nn.LazyLinear(2)
        self(torch.zeros(1, *SIZE))

    def forward(self, x):
        return self.head(torch.relu(self.layer(self.change(torch.relu(self.conv(x))))).view(len(x), -1))


def _merged(x):
    """Two by two pixels become one, channels innermost, as in Swin."""
    x = x.permute(0, 2, 3, 1).reshape(-1, 4, 2, 4, 2, x.shape[1])
    return x.permute(0, 1, 3, 4, 2, 5).flatten(3)


def _unshuffled(x):
    """Two by two pixels become one, channels outermost."""
    return x.reshape(-1, x.shape[1], 4, 2, 4, 2).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def _shuffled(x):
    """Channels of two groups take turns, as in ShuffleNet."""
    return x.view(len(x), 2, -1, 8, 8).transpose(1, 2).contiguous().view(len(x), -1, 8, 8)


@pytest.mark.parametrize(
    ("change", "layer", "expected"),
    [
        (lambda x: x.flatten(2).transpose(1, 2), nn.Linear(6, 4), [(i,) for i in range(6)]),
        (lambda x: x.mean((2, 3), keepdim=True).squeeze(3).squeeze(2), nn.Linear(6, 4), [(i,) for i in range(6)]),
        (lambda x: x.mean((2, 3), keepdim=True).squeeze(), nn.Linear(6, 4), [(i,) for i in range(6)]),
        (lambda x: x.flatten(1), nn.Linear(384, 4), [tuple(range(64 * i, 64 * i + 64)) for i in range(6)]),
        (lambda x: x.permute(0, 2, 3, 1).flatten(1), nn.Linear(384, 4), [tuple(range(i, 384, 6)) for i in range(6)]),
        (_merged, nn.Linear(24, 4), [(i, i + 6, i + 12, i + 18) for i in range(6)]),
        (_unshuffled, nn.Conv2d(24, 4, 1), [tuple(range(4 * i, 4 * i + 4)) for i in range(6)]),
    ],
)
def test_positions_behind_a_change_of_shape(change, layer, expected):
    groups = {g.name: g for g in find_groups(_Between(change, layer), SIZE)}
    (rows,) = [s.indices for s in groups["conv"].slices if s.layer == "layer"]
    assert rows == tuple(expected)
    assert set(groups) == {"conv", "layer"}


@pytest.mark.parametrize(
    ("change", "layer"),
    [(lambda x: x.view(-1, 3, 2, 64).transpose(1, 3), nn.Linear(3, 4)), (_shuffled, nn.Conv2d(6, 4, 1))],
)
def test_channels_spread_over_dimensions_stay_whole(change, layer):
    """Heads; and a shuffle, which sends the channels elsewhere when some are gone."""
    found = find_structures(_Between(change, layer), SIZE)
    assert [g.name for g in found.groups] == ["layer"]
    assert found.whole["conv"] == "divided into heads or groups, which stay whole"


def test_layouts_behind_a_stream_are_known():
    """Merged patches of what two layers add up."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 1)
            self.norm, self.reduce, self.head = nn.LayerNorm(24), nn.Linear(24, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.head(self.reduce(self.norm(_merged(self.a(x) + self.b(x)))).mean((1, 2)))

    stream, _ = find_groups(Net(), SIZE, residual_streams=True)
    assert {s.layer: s.indices[1] for s in stream.slices} == {
        "a": (1,),
        "b": (1,),
        "norm": (1, 7, 13, 19),
        "reduce": (1, 7, 13, 19),
    }

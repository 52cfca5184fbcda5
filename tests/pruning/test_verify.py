"""What was traced wrongly is refused, by name."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from oba.errors import ModelError
from oba.pruning.dependencies import find_groups
from oba.pruning.verify import verify_groups
from oba.structures import Slice, StructureGroup

SIZE = (3, 8, 8)


class _Shuffled(nn.Module):
    """Adds its channels to themselves in another order, which no dependency graph shows."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 6, 1), nn.Linear(10, 2)

    def forward(self, x):
        a = torch.relu(self.a(x))
        return self.fc(torch.cat([a + a[:, [2, 3, 0, 1]], self.b(x)], 1).mean((2, 3)))


def test_a_wrong_trace_is_refused_by_name():
    torch.manual_seed(0)
    with pytest.raises(
        ModelError, match=r"structures of _Shuffled are wrong at 1 of 2 groups: .* to structures.ignore: \[a\]$"
    ):
        find_groups(_Shuffled(), SIZE)
    assert [g.name for g in find_groups(_Shuffled(), SIZE, ignore=["a"])] == ["b"]


def test_the_advice_leads_out():
    """Ignoring what the message names makes the call succeed, however many groups are wrong."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(_Shuffled() for _ in range(7))

        def forward(self, x):
            return sum(block(x) for block in self.blocks)

    with pytest.raises(ModelError, match=r"wrong at 7 of 14 groups") as info:
        find_groups(Net(), SIZE)
    named = str(info.value).rpartition("[")[2].rstrip("]").split(", ")
    assert named == [f"blocks.{i}.a" for i in range(7)]
    assert [g.name for g in find_groups(Net(), SIZE, ignore=named)] == [f"blocks.{i}.b" for i in range(7)]


class _Response(nn.Module):
    """Global response normalisation, as a net of one's own might write it, of some of the channels or all."""

    def __init__(self, channels, of):
        super().__init__()
        self.gamma, self.of = nn.Parameter(torch.zeros(1, channels, 1, 1)), of

    def forward(self, x):
        energy = x.square().sum((2, 3), keepdim=True)
        return x + self.gamma * x * energy / energy[:, self.of].mean(1, keepdim=True)


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 6), _Response(6, slice(None))])
def test_norms_over_channels_are_right_if_channels_can_trade_places(norm):
    model = nn.Sequential(nn.Conv2d(3, 6, 3), norm, nn.Conv2d(6, 5, 1), nn.ReLU(), nn.Flatten(), nn.Linear(180, 2))
    first, second = find_groups(model, SIZE)
    assert (first.name, len(first), second.name, len(second)) == ("0", 6, "2", 5)


def test_norms_over_channels_do_not_hide_a_wrong_trace():
    """The first two channels mean more than the others, so their places count."""
    model = nn.Sequential(nn.Conv2d(3, 6, 3), _Response(6, [0, 1]), nn.Conv2d(6, 5, 1), nn.Flatten(), nn.Linear(180, 2))
    with pytest.raises(ModelError, match=r"structures.ignore: \[0\]"):
        find_groups(model, SIZE)


def test_branches_that_start_silent_are_checked_too():
    class Silent(_Shuffled):
        def __init__(self):
            super().__init__()
            nn.init.zeros_(self.fc.weight)

    with pytest.raises(ModelError, match=r"structures.ignore: \[a\]"):
        find_groups(Silent(), SIZE)


def _without(group, layer):
    return StructureGroup(group.name, tuple(s for s in group.slices if s.layer != layer))


def test_a_forgotten_slice_is_found(zoo):
    """A net that does not run, or computes something else, when cut."""
    case = zoo("residual-streams")
    broken = [_without(case.groups[0], "3.body.3"), *case.groups[1:]]
    with pytest.raises(ModelError, match=r"structures.ignore: \[0\]"):
        verify_groups(case.model, broken, SIZE)


def test_positions_out_of_range_are_found(zoo):
    case = zoo("batch-norm")
    group = StructureGroup("4", (*case.groups[1].slices, Slice("9", "in", tuple((i + 90,) for i in range(8)))))
    with pytest.raises(ModelError, match=r"structures.ignore: \[4\]"):
        verify_groups(case.model, [case.groups[0], group], SIZE)


def test_a_swapped_pair_of_rows_is_found(zoo):
    case = zoo("plain-flatten")
    first = case.groups[0]
    out, into = first.slices
    swapped = StructureGroup(
        first.name, (out, Slice(into.layer, into.axis, (into.indices[1], into.indices[0], *into.indices[2:])))
    )
    with pytest.raises(ModelError, match=r"structures.ignore: \[0\]"):
        verify_groups(case.model, [swapped], SIZE)


def test_groups_that_fail_together_only(zoo):
    """Two groups of the same channels in another order: each alone is right, together they leave nothing."""
    case = zoo("batch-norm")
    slices = case.groups[0].slices
    orders = {"x": [0, 1, 2, 3, 4, 5], "y": [1, 0, 3, 2, 5, 4]}
    rivals = [
        StructureGroup(n, tuple(Slice(s.layer, s.axis, tuple(s.indices[i] for i in order)) for s in slices))
        for n, order in orders.items()
    ]
    for rival in rivals:
        verify_groups(case.model, [rival], SIZE)
    with pytest.raises(ModelError, match=r"wrong at 1 of 2 groups: .* structures.ignore: \[y\]"):
        verify_groups(case.model, rivals, SIZE)


def test_right_groups_pass_and_the_model_is_left_as_found(zoo):
    case = zoo("batch-norm")
    before = copy.deepcopy(case.model.state_dict())
    verify_groups(case.model.train(), case.groups, SIZE)
    verify_groups(case.model, [], SIZE)
    assert case.model.training
    assert all(torch.equal(v, before[k]) for k, v in case.model.state_dict().items())

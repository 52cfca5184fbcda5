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
        ModelError, match=r"structures of _Shuffled are wrong at a \(and maybe more\).*structures.ignore"
    ):
        find_groups(_Shuffled(), SIZE)
    assert [g.name for g in find_groups(_Shuffled(), SIZE, ignore=["a"])] == ["b"]


def test_branches_that_start_silent_are_checked_too():
    class Silent(_Shuffled):
        def __init__(self):
            super().__init__()
            nn.init.zeros_(self.fc.weight)

    with pytest.raises(ModelError, match=r"wrong at a "):
        find_groups(Silent(), SIZE)


def _without(group, layer):
    return StructureGroup(group.name, tuple(s for s in group.slices if s.layer != layer))


def test_a_forgotten_slice_is_found(zoo):
    """A net that does not run, or computes something else, when cut."""
    case = zoo("residual-streams")
    broken = [_without(case.groups[0], "3.body.3"), *case.groups[1:]]
    with pytest.raises(ModelError, match=r"structures of Sequential are wrong at 0 \("):
        verify_groups(case.model, broken, SIZE)


def test_positions_out_of_range_are_found(zoo):
    case = zoo("batch-norm")
    group = StructureGroup("4", (*case.groups[1].slices, Slice("9", "in", tuple((i + 90,) for i in range(8)))))
    with pytest.raises(ModelError, match=r"wrong at 4 \("):
        verify_groups(case.model, [case.groups[0], group], SIZE)


def test_a_swapped_pair_of_rows_is_found(zoo):
    case = zoo("plain-flatten")
    first = case.groups[0]
    out, into = first.slices
    swapped = StructureGroup(
        first.name, (out, Slice(into.layer, into.axis, (into.indices[1], into.indices[0], *into.indices[2:])))
    )
    with pytest.raises(ModelError, match=r"wrong at 0 \("):
        verify_groups(case.model, [swapped], SIZE)


def test_groups_that_fail_together_only(zoo):
    """Two groups that claim the same channels of a layer: each alone is right."""
    case = zoo("batch-norm")
    slices = case.groups[0].slices
    rivals = [
        StructureGroup(n, tuple(Slice(s.layer, s.axis, s.indices[i : i + 4]) for s in slices))
        for i, n in enumerate(("x", "y"))
    ]
    for rival in rivals:
        verify_groups(case.model, [rival], SIZE)
    with pytest.raises(ModelError, match=r"wrong at several groups together"):
        verify_groups(case.model, rivals, SIZE)


def test_right_groups_pass_and_the_model_is_left_as_found(zoo):
    case = zoo("batch-norm")
    before = copy.deepcopy(case.model.state_dict())
    verify_groups(case.model.train(), case.groups, SIZE)
    verify_groups(case.model, [], SIZE)
    assert case.model.training
    assert all(torch.equal(v, before[k]) for k, v in case.model.state_dict().items())

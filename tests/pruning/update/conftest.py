"""Cuts of nets, and calibration images for them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from oba.pruning.cut import Cut, Images
from oba.pruning.replay import apply_plan, removal_plan
from oba.structures import StructureGroup

MakeCut = Callable[..., Cut]


@pytest.fixture
def make_cut() -> MakeCut:
    """Cut structures out of a copy of a net; by default every second one of each group."""

    def make(
        model: nn.Module, groups: Sequence[StructureGroup], removed: Mapping[str, Sequence[int]] | None = None
    ) -> Cut:
        if removed is None:
            removed = {group.name: range(1, len(group), 2) for group in groups}
        after, plan = copy.deepcopy(model), removal_plan(model, groups, removed)
        apply_plan(after, plan)
        return Cut(model, after, groups, removed, plan)

    return make


@pytest.fixture
def calibration() -> Images:
    """Two batches of different size, of five classes."""
    draw = torch.Generator().manual_seed(2)
    batches: list[tuple[Tensor, Tensor]] = [
        (torch.randn(n, 3, 8, 8, dtype=torch.float64, generator=draw), torch.randint(5, (n,), generator=draw))
        for n in (9, 5)
    ]
    return lambda: iter(batches)

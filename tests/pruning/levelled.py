"""Nets that are pruned to a level by the magnitudes of their weights, or as a test says."""

from __future__ import annotations

import torch

from oba.config import Floors
from oba.importance.scores import StructureScores
from oba.pruning.cut import make_update
from oba.pruning.levels import Steps, prune_to_level
from oba.pruning.plan import Plan
from oba.pruning.problem import make_allocation

SIZE = (3, 8, 8)


def magnitudes(model, groups):
    """Score by the magnitude of what a structure's producer holds."""
    rows = {g.name: g.on_axis("out")[0] for g in groups}
    return StructureScores({
        n: torch.stack([model.get_submodule(s.layer).weight[list(r)].abs().sum() for r in s.indices])
        for n, s in rows.items()
    })


def batches():
    """Go through three batches of images, float64."""
    draw = torch.Generator().manual_seed(5)
    for size in (4, 3, 2):
        yield torch.randn(size, *SIZE, generator=draw, dtype=torch.float64), torch.arange(size) % 3


def prune(
    case, keep, plan=None, *, score=magnitudes, allocation="global", update=None, rounds=4, widths=None, **floors
):
    made = make_allocation(allocation) if isinstance(allocation, str) else allocation
    return prune_to_level(
        case.model,
        case.groups,
        plan or Plan(),
        score=score,
        steps=Steps(made, update or make_update("none"), rounds, Floors(**floors)),
        images=batches,
        keep=keep,
        input_size=SIZE,
        widths=widths,
    )

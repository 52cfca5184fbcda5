"""Chains of layers as numbers: groups, costs, and the rounds that tests pose on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from oba.config import Floors
from oba.importance.scores import StructureScores
from oba.pruning.cost import CostModel, LayerCost
from oba.pruning.problem import Problem
from oba.structures import Slice, StructureGroup


def chain(widths: Sequence[int], units: Sequence[int], *, rows: int = 1) -> tuple[list[StructureGroup], CostModel]:
    """Return groups and costs; layer i has ``widths[i]`` inputs and ``widths[i + 1]`` outputs."""
    costs = {str(i): LayerCost(unit, widths[i + 1], widths[i]) for i, unit in enumerate(units)}
    groups = []
    for i in range(len(units) - 1):
        indices = tuple(tuple(range(rows * j, rows * j + rows)) for j in range(widths[i + 1] // rows))
        groups.append(StructureGroup(str(i), (Slice(str(i), "out", indices), Slice(str(i + 1), "in", indices))))
    return groups, CostModel(costs, 0, frozenset())


def posed(
    groups: Sequence[StructureGroup],
    cost: CostModel,
    scores: Mapping[str, Sequence[float]],
    keep: float,
    *,
    dense: Mapping[str, int] | None = None,
    interactions: Tensor | None = None,
    **floors: float,
) -> Problem:
    """Return a round; floors count from the groups as they are unless the dense net's sizes are given."""
    alone = {name: torch.tensor(values, dtype=torch.float64) for name, values in scores.items()}
    return Problem(
        groups,
        StructureScores(alone, interactions),
        cost,
        keep,
        Floors.model_validate(floors),
        dense or {g.name: len(g) for g in groups},
        cost.macs,
    )

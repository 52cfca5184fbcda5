"""Small nets as numbers: chains of layers whose widths, costs and scores are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch

from oba.config import Floors
from oba.importance.scores import StructureScores
from oba.pruning.cost import CostModel, LayerCost
from oba.pruning.problem import Problem
from oba.structures import Slice, StructureGroup

Build = Callable[..., Problem]


@pytest.fixture(scope="session")
def chain() -> Build:
    """Return a function that poses a round.

    Layer i has ``sizes[i]`` inputs and ``sizes[i + 1]`` outputs, and costs ``units[i]`` MACs for each pair of them;
    group ``"i"`` is the outputs of layer i and, unless ``apart``, the inputs of layer i + 1.
    """

    def build(
        sizes: Sequence[int],
        units: Sequence[int],
        scores: Sequence[Sequence[float]] | None = None,
        *,
        keep: float,
        apart: bool = False,
        interactions: torch.Tensor | None = None,
        curves: Mapping[str, torch.Tensor] | None = None,
        floors: Mapping[str, float] | None = None,
        **rest,
    ) -> Problem:
        groups = []
        for i, size in enumerate(sizes[1:-1]):
            rows = tuple((j,) for j in range(size))
            reads = () if apart else (Slice(str(i + 1), "in", rows),)
            groups.append(StructureGroup(str(i), (Slice(str(i), "out", rows), *reads)))
        cost = CostModel({str(i): LayerCost(u, sizes[i + 1], sizes[i]) for i, u in enumerate(units)}, 0, frozenset())
        alone = {
            g.name: torch.arange(len(g)).double() if scores is None else torch.tensor(scores[i]).double()
            for i, g in enumerate(groups)
        }
        return Problem(
            groups,
            StructureScores(alone, interactions, curves=curves),
            cost,
            keep,
            Floors(**(floors or {})),  # pyright: ignore[reportArgumentType]
            {g.name: len(g) for g in groups},
            cost.macs,
            **rest,
        )

    return build

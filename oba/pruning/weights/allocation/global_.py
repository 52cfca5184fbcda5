"""One ranking over all weights ``global``: the lowest score goes first, wherever it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from oba.errors import BudgetError
from oba.options import Options
from oba.pruning.queues import EPSILON
from oba.pruning.weights.problem import WeightAllocation, WeightProblem, largest


class GlobalOptions(Options):
    """Options of ``global``."""

    floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of its weights that every layer keeps at least; with 0 a layer may lose all of them."""


class Global(WeightAllocation[GlobalOptions]):
    """Scores of different layers are compared as they are."""

    def require(self, shapes: Mapping[str, torch.Size], keep: float) -> None:
        """Refuse a level below the floor."""
        total = sum(shape.numel() for shape in shapes.values())
        lowest = sum(self._floor(shape.numel()) for shape in shapes.values())
        if lowest > keep * total + EPSILON:
            raise BudgetError(
                f"keep={keep:.4g} cannot be reached: allocation 'global' with floor={self.options.floor:g} keeps "
                f"{lowest / total:.4f} of {total:,} weights; choose higher levels of keep or a lower floor"
            )

    def select(self, problem: WeightProblem) -> dict[str, Tensor]:
        """Keep the best of all weights, the best of each layer up to its floor before them."""
        ranks = [problem.ranks(name).flatten() for name in problem.masks]
        if self.options.floor:
            for rank in ranks:
                rank[largest(rank, self._floor(len(rank))) & (rank >= 0)] = math.inf
        found = largest(torch.cat(ranks), problem.budget).split([len(rank) for rank in ranks])
        return {
            name: kept.view_as(mask) & mask for (name, mask), kept in zip(problem.masks.items(), found, strict=True)
        }

    def _floor(self, weights: int) -> int:
        return math.ceil(self.options.floor * weights - EPSILON)


ALLOCATION = Global

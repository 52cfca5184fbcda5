"""N of every M weights ``n-m``: 2 of 4 is what NVIDIA's sparse tensor cores skip.

Of every M consecutive inputs of an output, at one position of the kernel, the N with the highest scores stay. The last
inputs where M does not divide their number keep N of however many they are, so a net keeps a little more than N/M.
Rounds before the last one keep ``ceil(keep · M)`` of M.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from oba.errors import BudgetError
from oba.options import Options
from oba.pruning.queues import EPSILON
from oba.pruning.weights.problem import GONE, WeightAllocation, WeightProblem


class PatternOptions(Options):
    """The pattern."""

    n: Annotated[int, Field(ge=1)] = 2
    """How many stay."""
    m: Annotated[int, Field(ge=2)] = 4
    """Of how many."""

    @model_validator(mode="after")
    def _some_go(self) -> Self:
        if self.n >= self.m:
            raise ValueError(f"n: got {self.n}; allowed: less than m ({self.m})")
        return self


class Pattern(WeightAllocation[PatternOptions]):
    """The level is the pattern's own."""

    def require(self, shapes: Mapping[str, torch.Size], keep: float) -> None:
        """Refuse every level but N/M."""
        n, m = self.options.n, self.options.m
        if abs(keep - n / m) > EPSILON:
            raise BudgetError(
                f"keep={keep:.4g} cannot be reached: allocation 'n-m' keeps {n} of every {m} weights; "
                f"allowed: keep: [{n / m:g}]"
            )

    def select(self, problem: WeightProblem) -> dict[str, Tensor]:
        """Keep the best of every M weights."""
        count = max(self.options.n, math.ceil(problem.keep * self.options.m - EPSILON))
        return {name: self._best(problem.ranks(name), count) & mask for name, mask in problem.masks.items()}

    def _best(self, ranks: Tensor, count: int) -> Tensor:
        """Find the best of every M, for each output and position of the kernel."""
        rows = ranks.movedim(1, -1)
        inputs, m = rows.shape[-1], self.options.m
        blocks = F.pad(rows, (0, -inputs % m), value=2 * GONE).unflatten(-1, (-1, m))
        best = blocks.argsort(dim=-1, descending=True, stable=True)[..., :count]
        found = torch.zeros_like(blocks, dtype=torch.bool).scatter_(-1, best, True)
        return found.flatten(-2)[..., :inputs].movedim(-1, 1)


ALLOCATION = Pattern

"""How many weights go where: the problem that one round poses, and the interface of its answer.

A file ``oba/pruning/weights/allocation/my_name.py`` that defines ``ALLOCATION``, a subclass of
:class:`WeightAllocation`, adds the allocation ``my-name`` of methods with ``granularity: weights``. Its options are the
fields of the class that it is generic in.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oba.models.weight_masks import Masks
from oba.options import Configured, O, checked_options, part
from oba.pruning.queues import EPSILON

GONE = -1.0
"""The rank of weights that are gone, below every score."""


@dataclass(frozen=True)
class WeightProblem:
    """One round: bring a net down to a fraction of its weights.

    Attributes:
        scores: Scores of the weights by name, in their shapes; none is negative, and the lowest go first.
        masks: What is kept now.
        keep: Fraction of the weights to keep, those that are gone counted in.
    """

    scores: Mapping[str, Tensor]
    masks: Masks
    keep: float

    @property
    def budget(self) -> int:
        """Number of weights that may be left."""
        return math.floor(self.keep * sum(mask.numel() for mask in self.masks.values()) + EPSILON)

    def ranks(self, name: str) -> Tensor:
        """Return a weight's scores, with :data:`GONE` where nothing is left."""
        return self.scores[name].masked_fill(~self.masks[name], GONE)


class WeightAllocation(Configured[O], ABC):
    """One way to divide what goes among the weights."""

    @classmethod
    def for_weights(cls) -> bool:
        """Tell that it divides nothing else."""
        return True

    def require(self, shapes: Mapping[str, torch.Size], keep: float) -> None:
        """Refuse a level that cannot be reached: none by default.

        Args:
            shapes: Shapes of the weights that may go.
            keep: Fraction of them to keep.

        Raises:
            BudgetError: If the level cannot be reached.
        """

    @abstractmethod
    def select(self, problem: WeightProblem) -> dict[str, Tensor]:
        """Choose what stays in one round.

        Args:
            problem: The round.

        Returns:
            New masks: nothing that was gone is back.
        """


def make_weight_allocation(name: str, **options: object) -> WeightAllocation:
    """Return a registered allocation of weights.

    Args:
        name: Its name, with dashes.
        **options: Its own options; those not given have their defaults.

    Returns:
        The allocation.
    """
    entry: Any = part("weight allocation", name)
    return entry(checked_options(entry, f"allocation {name!r}", options))


def largest(ranks: Tensor, count: int) -> Tensor:
    """Find the largest elements without sorting all of them; of equal ones, the first count.

    One selection by NumPy on the CPU, linear in the number of elements; it takes a copy of the ranks.

    Args:
        ranks: One dimension.
        count: How many are wanted.

    Returns:
        Where they are, bool.
    """
    if count <= 0 or count >= len(ranks):
        return torch.full_like(ranks, count > 0, dtype=torch.bool)
    place = len(ranks) - count
    threshold = float(np.partition(ranks.cpu().numpy(), place)[place])
    found = ranks > threshold
    ties = (ranks == threshold).nonzero().flatten()
    found[ties[: count - int(found.sum())]] = True
    return found


def keep_by_layer(problem: WeightProblem, counts: Sequence[int]) -> dict[str, Tensor]:
    """Keep given numbers of weights.

    Args:
        problem: The round.
        counts: How many weights each layer keeps, no more than it has left.

    Returns:
        New masks.
    """
    return {
        name: largest(problem.ranks(name).flatten(), count).view_as(mask)
        for (name, mask), count in zip(problem.masks.items(), counts, strict=True)
    }

"""One ranking over all groups ``global`` (the paper's): the lowest score goes first, wherever it is."""

from __future__ import annotations

from typing import Literal

from oba.options import Options
from oba.pruning.greedy import remove_to_budget
from oba.pruning.problem import Allocation, Problem, Selection


class RankingOptions(Options):
    """Options of allocations that rank structures of different groups together."""

    scope: Literal["net", "kind"] = "net"
    """What one ranking covers: the whole net, or one kind of structures (channels, streams, heads, dimensions), all
    kinds shrinking at the same pace."""


class Global(Allocation[RankingOptions]):
    """Who goes decides how much goes where; the criterion's ``normalizer`` is what makes groups comparable."""

    def select(self, problem: Problem) -> Selection:
        """Remove the cheapest structures until the budget is met."""
        return remove_to_budget(problem, scope=self.options.scope)


ALLOCATION = Global

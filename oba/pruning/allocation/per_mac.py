"""One ranking by the score per MAC saved ``per-mac``, the saving counted again after each removal."""

from __future__ import annotations

from oba.pruning.allocation.global_ import RankingOptions
from oba.pruning.greedy import remove_to_budget
from oba.pruning.problem import Allocation, Problem, Selection


class PerMac(Allocation[RankingOptions]):
    """Negative scores go before all others, the lowest first; then the lowest score per MAC that goes with it."""

    def select(self, problem: Problem) -> Selection:
        """Remove what costs least per MAC until the budget is met."""
        return remove_to_budget(problem, per_mac=True, scope=self.options.scope)


ALLOCATION = PerMac

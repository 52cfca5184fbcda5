"""One ranking over all groups ``global`` (the paper's): the lowest score goes first, wherever it is."""

from __future__ import annotations

from oba.options import Options
from oba.pruning.greedy import remove_to_budget
from oba.pruning.problem import Allocation, Problem, Selection


class Global(Allocation[Options]):
    """Who goes decides how much goes where; the criterion's ``normalizer`` is what makes groups comparable."""

    def select(self, problem: Problem) -> Selection:
        """Remove the cheapest structures until the budget is met."""
        return remove_to_budget(problem)


ALLOCATION = Global

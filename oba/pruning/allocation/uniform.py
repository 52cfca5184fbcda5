r"""The same fraction of every group ``uniform``: who goes decides nothing but who goes.

With n_g structures of group g in the dense net and k_g left, the block that goes next is one of the group with the
largest fraction left, counted at the block's middle: :math:`\arg\max_g (k_g - b_g / 2) / n_g`. Fractions then differ by
at most one block, and the budget is met as closely as such widths allow.
"""

from __future__ import annotations

from collections import Counter

from oba.options import Options
from oba.pruning.greedy import remove_counts
from oba.pruning.problem import Allocation, Problem, Selection


class Uniform(Allocation[Options]):
    """Equal fractions, counted from the dense net."""

    def select(self, problem: Problem) -> Selection:
        """Find the widths, then remove the cheapest structures of every group down to them."""
        return remove_counts(problem, uniform_counts(problem))


def uniform_counts(problem: Problem) -> dict[str, int]:
    """Return how many structures go from each group so that all keep the same fraction.

    Args:
        problem: The round.

    Returns:
        Numbers by group; groups that lose nothing are absent.
    """
    problem.require_reachable()
    cost, gone = problem.cost.copy(), Counter[str]()
    floors = {group.name: problem.floor(group) for group in problem.groups}
    while cost.macs > problem.budget:
        blocks = {}
        for group in problem.groups:
            left = len(group) - gone[group.name]
            if block := floors[group.name].block(left):
                blocks[group.name] = ((left - block / 2) / problem.dense_counts[group.name], block, group)
        _, block, group = max(blocks.values(), key=lambda entry: entry[0])
        cost.remove(group, block)
        gone[group.name] += block
    return dict(gone)


ALLOCATION = Uniform

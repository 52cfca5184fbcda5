r"""The same fraction of every group ``uniform``: who goes decides nothing but who goes.

With n_g structures of group g in the dense net, each group keeps :math:`f n_g` of them, rounded to the nearest width
that its blocks and its floor allow, with the largest fraction f that meets the budget. Of the groups that were rounded
down, those that fit into the MACs left over are then rounded up, the one that uses most of them first. So every group
lies within one block of :math:`f n_g`, except where its floor, or an earlier round, keeps it away.
"""

from __future__ import annotations

from oba.options import Options
from oba.pruning.greedy import remove_counts
from oba.pruning.problem import Allocation, Problem, Selection
from oba.pruning.widths import Widths


class Uniform(Allocation[Options]):
    """Equal fractions, counted from the dense net."""

    def select(self, problem: Problem) -> Selection:
        """Find the widths, then remove the cheapest structures of every group down to them."""
        return remove_counts(problem, uniform_widths(problem).counts())


def uniform_widths(problem: Problem) -> Widths:
    """Return the widths at which all groups keep the same fraction.

    Args:
        problem: The round.

    Returns:
        Widths that meet the budget.
    """
    widths = Widths(problem)
    dense = [problem.dense_counts[group.name] for group in problem.groups]
    left = [len(group) for group in problem.groups]
    fraction = widths.shrink(lambda i, gone: (left[i] - gone) / dense[i])
    down = {i for i, at in enumerate(widths.at) if at and left[i] - widths.choices[i][at] < fraction * dense[i]}
    while True:
        needed = {i: -widths.saving(i, widths.block(i, -1)) for i in sorted(down)}
        fitting = [i for i, macs in needed.items() if macs <= widths.spare]
        if not fitting:
            return widths
        up = max(fitting, key=needed.__getitem__)
        widths.move(up, -1)
        down.remove(up)


ALLOCATION = Uniform

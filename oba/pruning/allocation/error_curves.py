r"""The least sum of the groups' errors under the budget ``error-curves``, by dynamic programming.

With E_g(r) the error that is made when r structures of group g go, the widths solve

.. math:: \min_r \sum_g E_g(r_g) \quad \text{such that} \quad M(r) \le B,

a multiple-choice knapsack problem but for M: a layer's MACs are a product of two groups' widths. So M is replaced by
its change with one group at a time around the present widths r*, :math:`M(r^*) + \sum_g (M(r_g, r^*_{-g}) - M(r^*))`,
the knapsack is solved by dynamic programming over the MACs (as ZipLM does over latency: Kurtic, Frantar and Alistarh,
NeurIPS 2023), and both are repeated around the solution, starting at the floors. Blocks then go or return one by one
until the true MACs meet the budget. Where equal fractions make a smaller error than all this, they are what is taken.
Each round of a method does it again, with new curves.

The curves are those of the criterion where it has them (``reconstruction``), else its scores added up within the group,
the cheapest first, each on top of those before it and none below 0. Errors of different groups are compared as they
are, so scores of a criterion need a scale that they share: nats, or a ``normalizer``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oba.errors import ScoreError
from oba.options import Options
from oba.pruning.allocation.uniform import uniform_widths
from oba.pruning.greedy import remove_counts
from oba.pruning.problem import Allocation, Problem, Selection
from oba.pruning.widths import Widths

UNITS = 2048
"""Into how many units of MACs a budget is divided at most; what a choice costs is rounded up to whole ones."""
ITERATIONS = 8
"""Times that MACs are linearised around a new solution at most."""


class ErrorCurves(Allocation[Options]):
    """Most goes from where its cumulated error stays lowest per MAC."""

    def select(self, problem: Problem) -> Selection:
        """Find the widths, then remove the cheapest structures of every group down to them."""
        widths = uniform_widths(problem)
        curves = [curve[choices] for curve, choices in zip(error_curves(problem), widths.choices, strict=True)]
        even, floors = widths.at, [len(choices) - 1 for choices in widths.choices]
        widths.set(floors)
        for _ in range(ITERATIONS):
            around = widths.at
            widths.set(_linearised_optimum(widths, curves))
            if widths.at == around:
                break
        _repair(widths, curves)
        if _total(curves, even) < _total(curves, widths.at):
            widths.set(even)
        return remove_counts(problem, widths.counts())


def error_curves(problem: Problem) -> list[np.ndarray]:
    """Return each group's error as a function of how many of its structures go.

    Args:
        problem: The round.

    Returns:
        For each group shape (structures + 1,), float64, from 0 on, never falling.

    Raises:
        ScoreError: If the criterion's own curves are missing for a group, of the wrong shape or not finite.
    """
    if problem.scores.curves is None:
        return _cumulated_prices(problem)
    curves = []
    for group in problem.groups:
        curve = problem.scores.curves.get(group.name)
        if curve is None or curve.shape != (len(group) + 1,) or not curve.isfinite().all():
            found = "none" if curve is None else f"shape {tuple(curve.shape)}"
            raise ScoreError(
                f"error curve of group {group.name!r}: {found}, expected {len(group) + 1} finite numbers for 0 to "
                f"{len(group)} structures removed"
            )
        curves.append(np.maximum.accumulate(curve.double().numpy() - curve[0].item()))
    return curves


def _cumulated_prices(problem: Problem) -> list[np.ndarray]:
    """Return the curves that scores make: cumulated within the group, negative prices as 0."""
    prices, scores = problem.prices(), problem.scores
    start, starts = 0, {}
    for name, alone in scores.alone.items():
        starts[name] = start
        start += len(alone)
    curves = []
    for group in problem.groups:
        order, _ = prices.cheapest(group.name, len(group))
        steps = scores.alone[group.name].double()[order].numpy()
        if scores.interactions is not None:
            places = starts[group.name] + np.array(order)
            steps = steps + np.tril(scores.interactions.double().numpy()[np.ix_(places, places)], -1).sum(1)
        curves.append(np.r_[0.0, np.maximum(steps, 0).cumsum()])
    return curves


def _total(curves: Sequence[np.ndarray], at: Sequence[int]) -> float:
    return float(sum(curve[index] for curve, index in zip(curves, at, strict=True)))


def _linearised_optimum(widths: Widths, curves: Sequence[np.ndarray]) -> list[int]:
    """Return the best choices if MACs changed with each group as they do around the present widths alone."""
    weights, spare = [], widths.spare
    for i, (choices, now) in enumerate(zip(widths.choices, widths.at, strict=True)):
        more = np.array(choices) - choices[now]
        # Along one group MACs are a polynomial of degree 2 (a layer may both read and make it), so 2 points say all.
        once, twice = widths.saving(i, 1), widths.saving(i, 2)
        saved = more * once + more * (more - 1) // 2 * (twice - 2 * once)
        weights.append(saved[-1] - saved)
        spare += int(saved[-1])
    unit = max(1, -(-spare // UNITS))
    return knapsack(curves, [-(-weight // unit) for weight in weights], spare // unit)


def knapsack(values: Sequence[np.ndarray], weights: Sequence[np.ndarray], capacity: int) -> list[int]:
    r"""Choose one entry of each list: the least sum of values whose weights fit.

    .. math:: F_g(c) = \min_j F_{g-1}(c - w_{gj}) + v_{gj}, \quad F_0 = 0

    Args:
        values: For each list shape (entries,), never falling.
        weights: Of the same shapes, whole numbers from 0 on, never rising, the last one 0.
        capacity: What the chosen weights may add up to.

    Returns:
        Index of the chosen entry, one per list; of equal ones the first.
    """
    best, chosen = np.zeros(capacity + 1), []
    for value, weight in zip(values, weights, strict=True):
        least, choice = np.full(capacity + 1, np.inf), np.zeros(capacity + 1, dtype=int)
        # Of entries of one weight the first has the lowest value.
        for light, j in zip(*np.unique(weight, return_index=True), strict=True):
            if light > capacity:
                break
            total = best[: capacity + 1 - light] + value[j]
            better = total < least[light:]
            np.copyto(least[light:], total, where=better)
            np.copyto(choice[light:], j, where=better)
        best = least
        chosen.append(choice)
    indices, room = [], capacity
    for choice, weight in zip(reversed(chosen), reversed(weights), strict=True):
        indices.append(int(choice[room]))
        room -= int(weight[indices[-1]])
    return indices[::-1]


def _repair(widths: Widths, curves: Sequence[np.ndarray]) -> None:
    """Meet the budget with true MACs: blocks go where they cost least per MAC, then come back while they fit."""

    def gains(steps: int) -> dict[int, tuple[float, int]]:
        """Return per group the MACs that a block saves and the error per MAC, for blocks that go (1) or return (-1)."""
        found = {}
        for i, (choices, at) in enumerate(zip(widths.choices, widths.at, strict=True)):
            if 0 <= at + steps < len(choices):
                macs = abs(widths.saving(i, widths.block(i, steps)))
                found[i] = abs(curves[i][at + steps] - curves[i][at]) / max(macs, 1), macs
        return found

    while widths.spare < 0:
        going = {i: error for i, (error, macs) in gains(1).items() if macs}
        widths.move(min(going, key=going.__getitem__), 1)
    while returning := {i: error for i, (error, macs) in gains(-1).items() if macs <= widths.spare}:
        widths.move(max(returning, key=returning.__getitem__), -1)


ALLOCATION = ErrorCurves

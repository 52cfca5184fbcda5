"""Widths of least error: the dynamic programme against all widths there are, on nets small enough to try them."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oba.errors import ScoreError
from oba.importance.scores import StructureScores
from oba.pruning.allocation.error_curves import error_curves, knapsack
from oba.pruning.cost import CostModel, LayerCost
from oba.pruning.problem import lowest_keep, make_allocation
from oba.structures import StructureGroup


def _select(problem, name="error-curves"):
    return make_allocation(name).select(problem)


def _error(problem, removed):
    curves = zip(problem.groups, error_curves(problem), strict=True)
    return sum(curve[len(removed.get(group.name, ()))] for group, curve in curves)


def _least(problem):
    """Return the least sum of errors over all widths whose true MACs meet the budget."""
    least, curves = math.inf, error_curves(problem)
    for gone in itertools.product(*(problem.choices(group) for group in problem.groups)):
        cost = problem.cost.copy()
        for group, count in zip(problem.groups, gone, strict=True):
            cost.remove(group, count)
        if cost.macs <= problem.budget:
            least = min(least, sum(curve[count] for curve, count in zip(curves, gone, strict=True)))
    return least


def _random(chain, seed, *, sizes=(4, 6, 8), most=4, **options):
    """Pose a round on a random chain whose groups differ in how much they matter."""
    rng = random.Random(seed)
    layers = [rng.choice(sizes) for _ in range(rng.randint(2, most))]
    units = [rng.randint(1, 30) for _ in range(len(layers) + 1)]
    matter = [rng.expovariate(1) for _ in layers]
    scores = [[m * rng.expovariate(1) for _ in range(n)] for m, n in zip(matter, layers, strict=True)]
    floors = {"round_to": rng.choice([1, 1, 2])}
    ends = rng.randint(1, 4), rng.randint(1, 5)
    problem = chain([ends[0], *layers, ends[1]], units, scores, keep=1.0, floors=floors, **options)
    lowest = lowest_keep(problem.groups, problem.cost, problem.floors)
    return replace(problem, keep=lowest + (1 - lowest) * rng.random())


@pytest.mark.parametrize("seed", range(40))
def test_groups_that_share_no_layer_get_the_best_widths(chain, seed):
    problem = _random(chain, seed, apart=True)
    assert _error(problem, _select(problem).removed) == pytest.approx(_least(problem), rel=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_a_stream_that_reads_what_it_makes_saves_squares(chain, seed):
    """Two groups, each of which makes and reads a layer of its own: their MACs are squares of their widths."""
    problem = _random(chain, seed, most=2, apart=True)
    groups, costs = [], {}
    for group in problem.groups:
        (made,) = group.slices
        groups.append(StructureGroup(group.name, (made, replace(made, axis="in"))))
        costs[group.name] = LayerCost(random.Random(seed).randint(1, 30), len(group), len(group))
    cost = CostModel(costs, 0, frozenset())
    problem = replace(problem, groups=groups, cost=cost, dense_macs=cost.macs)
    assert _error(problem, _select(problem).removed) == pytest.approx(_least(problem), rel=1e-12)


def test_neighbours_get_nearly_the_best_widths(chain):
    """MACs are products of neighbouring widths: the best widths in 97 of 100 cases, 0.2 % above them on average."""
    gaps = []
    for seed in range(200):
        problem = _random(chain, seed)
        least = _least(problem)
        gaps.append(_error(problem, _select(problem).removed) / least - 1 if least else 0.0)
    assert min(gaps) > -1e-12
    assert np.mean(np.array(gaps) < 1e-9) >= 0.97
    assert np.mean(gaps) < 2e-3


@given(seed=st.integers(0, 10**6))
def test_never_worse_than_equal_fractions(chain, seed):
    problem = _random(chain, seed, sizes=(3, 10, 24, 40), most=7)
    assert _error(problem, _select(problem).removed) <= _error(problem, _select(problem, "uniform").removed)


def test_equal_fractions_are_taken_where_linear_macs_mislead(chain):
    """In nets as narrow as this the products of widths that a linear form leaves out are large."""
    problem = chain([3, 2, 4, 1], [3, 9, 2], [[4.0] * 2, [4.0] * 4], keep=0.5)
    chosen = _select(problem)
    assert chosen == _select(problem, "uniform")
    assert _error(problem, chosen.removed) == _least(problem)


@given(seed=st.integers(0, 10**6))
def test_nothing_that_has_gone_fits_into_the_macs_left_over(chain, seed):
    """Also where a unit of the dynamic programme is many MACs."""
    problem = _random(chain, seed, sizes=(10, 24, 40), most=6)
    chosen = _select(problem)
    if chosen == _select(problem, "uniform"):
        return
    cost = problem.cost.copy()
    for group in problem.groups:
        cost.remove(group, len(chosen.removed.get(group.name, ())))
    for group in problem.groups:
        choices = problem.choices(group)
        if at := choices.index(len(chosen.removed.get(group.name, ()))):
            assert cost.macs - cost.saving(group, choices[at - 1] - choices[at]) > problem.budget


def test_a_group_that_matters_is_not_starved(chain):
    """Every structure of the first group is worth a hundred of the others; equal fractions halve it all the same."""
    scores = [[100.0] * 16, [1.0] * 16, [1.0] * 16]
    problem = chain([3, 16, 16, 16, 10], [9, 9, 9, 1], scores, keep=0.3)
    equal, curves = _select(problem, "uniform").removed, _select(problem).removed
    assert len(equal["0"]) >= 7
    assert "0" not in curves
    assert _error(problem, curves) < 0.05 * _error(problem, equal)


def test_the_criterions_own_curves_come_first(chain):
    """The scores say that the second group may go, the curves say the first one."""
    scores = [[9.0, 8, 7, 6], [1.0, 2, 3, 4]]
    curves = {"0": torch.linspace(0, 1, 5), "1": torch.tensor([0.0, 50, 60, 70, 80])}
    problem = chain([1, 4, 4, 1], [5, 5, 0], scores, keep=0.75, apart=True)
    assert _select(problem).removed == {"1": (0, 1)}
    problem = chain([1, 4, 4, 1], [20, 5, 0], scores, keep=0.75, apart=True, curves=curves)
    assert _select(problem).removed == {"0": (2, 3)}


@pytest.mark.parametrize(
    ("curves", "found"),
    [
        ({"0": torch.zeros(5)}, "'1': none"),
        ({"0": torch.zeros(5), "1": torch.zeros(4)}, "'1': shape (4,)"),
        ({"0": torch.zeros(5), "1": torch.tensor([0, 1, 2, math.nan, 3])}, "'1': shape (5,)"),
    ],
)
def test_curves_that_do_not_fit_are_refused(chain, curves, found):
    with pytest.raises(ScoreError) as info:
        _select(chain([1, 4, 4, 1], [1, 1, 1], keep=0.5, curves=curves))
    assert str(info.value) == (f"error curve of group {found}, expected 5 finite numbers for 0 to 4 structures removed")


def test_curves_start_at_nothing_and_never_fall(chain):
    problem = chain([1, 3, 1], [1, 1], keep=0.5, curves={"0": torch.tensor([1.0, 3, 2, 5])})
    assert error_curves(problem)[0].tolist() == [0, 2, 2, 4]


def test_scores_add_up_from_the_cheapest_on_and_gains_count_as_nothing(chain):
    problem = chain([1, 4, 3, 1], [1, 1, 1], [[5, -2, 1, 3], [4, 2, 8]], keep=0.5)
    assert [curve.tolist() for curve in error_curves(problem)] == [[0, 0, 1, 4, 9], [0, 2, 6, 14]]


def test_prices_that_interact_add_up_in_the_order_in_which_a_group_would_go(chain):
    """In the group by itself, whatever the scores' order of groups is; the others stay whole."""
    draw = torch.Generator().manual_seed(0)
    alone = {"1": torch.rand(4, generator=draw).double() + 3, "0": torch.rand(5, generator=draw).double() + 3}
    matrix = torch.rand(9, 9, generator=draw).double()
    scores = StructureScores(alone, matrix + matrix.T, in_nats=True)
    problem = replace(chain([1, 5, 4, 1], [1, 1, 1], keep=0.5), scores=scores)
    for group, curve in zip(problem.groups, error_curves(problem), strict=True):
        gone: list[int] = []
        while len(gone) < len(group):
            rest = set(range(len(group))) - set(gone)
            gone.append(min(rest, key=lambda i: scores.change({group.name: [*gone, i]})))
            assert curve[len(gone)] == pytest.approx(scores.change({group.name: gone}))


@given(data=st.data())
def test_knapsack_finds_the_best_choice(data):
    lists = data.draw(st.integers(1, 3))
    values, weights = [], []
    for _ in range(lists):
        entries = data.draw(st.integers(1, 5))
        values.append(np.cumsum(data.draw(st.lists(st.integers(0, 9), min_size=entries, max_size=entries))))
        falls = data.draw(st.lists(st.integers(0, 4), min_size=entries - 1, max_size=entries - 1))
        weights.append(np.cumsum([0, *falls])[::-1])
    capacity = data.draw(st.integers(0, 15))
    chosen = knapsack(values, weights, capacity)

    def total(rows, entries):
        return sum(int(row[j]) for row, j in zip(rows, entries, strict=True))

    everything = itertools.product(*(range(len(row)) for row in values))
    assert total(weights, chosen) <= capacity
    assert total(values, chosen) == min(total(values, e) for e in everything if total(weights, e) <= capacity)

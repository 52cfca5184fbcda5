"""Prices: marginals against the formula, and scores and interactions that cannot be ranked."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import torch

from oba.errors import ScoreError
from oba.importance.scores import StructureScores
from oba.pruning.prices import Prices
from oba.structures import Slice, StructureGroup


def _group(name, size):
    return StructureGroup(name, (Slice(name, "out", tuple((i,) for i in range(size))),))


GROUP = _group("a", 3)
SCORES = torch.tensor([3.0, -4.0, 0.0])


def _symmetric(size, seed):
    """Small whole numbers, so that sums are exact in any order; the diagonal is not zero, but means nothing."""
    upper = torch.randint(-9, 10, (size, size), generator=torch.Generator().manual_seed(seed)).double().triu()
    return upper + upper.triu(1).T


def _scores(sizes, seed):
    alone = {
        name: torch.randint(-9, 10, (size,), generator=torch.Generator().manual_seed(seed + i)).double()
        for i, (name, size) in enumerate(sizes.items())
    }
    return StructureScores(alone, _symmetric(sum(sizes.values()), seed), in_nats=True)


def _by_hand(scores, members):
    """Σ s_c + Σ H_cd over pairs, written out; members are (group, index)."""
    names = [(name, i) for name, alone in scores.alone.items() for i in range(len(alone))]
    total = sum(scores.alone[name][i].item() for name, i in members)
    for one, other in itertools.combinations(members, 2):
        total += scores.interactions[names.index(one), names.index(other)].item()
    return total


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_are_prices_until_something_is_gone(dtype):
    prices = Prices([GROUP], StructureScores({"a": SCORES.to(dtype)}))
    assert prices.marginals("a").tolist() == [3, -4, 0]
    assert prices.marginals("a").dtype == np.float64
    assert not prices.interact
    assert Prices([GROUP], StructureScores({"a": SCORES}, _symmetric(3, 0))).marginals("a").tolist() == [3, -4, 0]
    assert Prices([GROUP], StructureScores({"a": SCORES}, _symmetric(3, 0))).interact


def test_every_subset_costs_what_the_formula_says_in_any_order():
    scores = _scores({"a": 4, "b": 1, "c": 3}, seed=1)
    groups = [_group("b", 1), _group("c", 3), _group("a", 4)]
    everything = [(name, i) for name, alone in scores.alone.items() for i in range(len(alone))]
    draw = random.Random(0)
    for size in range(len(everything) + 1):
        for members in itertools.combinations(everything, size):
            expected = _by_hand(scores, members)
            assert scores.change({n: [i for name, i in members if name == n] for n in "abc"}) == expected
            prices, total = Prices(groups, scores), 0.0
            for name, i in draw.sample(members, size):
                total += prices.marginals(name)[i]
                prices.remove(name, [i])
            assert total == expected


def test_all_orders_of_one_set_cost_the_same():
    scores = _scores({"a": 2, "b": 3}, seed=2)
    everything = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)]
    for order in itertools.permutations(everything):
        prices, total = Prices([_group("a", 2), _group("b", 3)], scores), 0.0
        for name, i in order:
            total += prices.marginals(name)[i]
            prices.remove(name, [i])
        assert total == _by_hand(scores, everything)


def test_what_is_gone_is_never_cheap():
    prices = Prices([GROUP], StructureScores({"a": SCORES}, _symmetric(3, 3), in_nats=True))
    prices.remove("a", [1, 2])
    assert prices.marginals("a").tolist() == [3 + _symmetric(3, 3)[0, 1:].sum(), math.inf, math.inf]
    assert prices.cheapest("a", 1)[0] == [0]


def test_a_block_costs_what_its_members_cost_together():
    scores = _scores({"a": 5, "b": 3}, seed=4)
    prices = Prices([_group("a", 5), _group("b", 3)], scores)
    prices.remove("b", [2])
    before = prices.marginals("a")
    for size in range(6):
        block, price = prices.cheapest("a", size)
        assert len(set(block)) == size
        members = [("a", i) for i in block]
        assert price == _by_hand(scores, [("b", 2), *members]) - _by_hand(scores, [("b", 2)])
    assert prices.marginals("a").tolist() == before.tolist(), "looking changes nothing"


def test_a_block_does_not_take_both_of_two_twins():
    """Either of the first two can go for nothing, as the other does its work; both are dear."""
    interactions = torch.zeros(3, 3)
    interactions[0, 1] = interactions[1, 0] = 10
    scores = StructureScores({"a": torch.tensor([0.0, 0.0, 1.0])}, interactions, in_nats=True)
    assert Prices([GROUP], scores).cheapest("a", 2) == ([0, 2], 1.0)
    assert Prices([GROUP], StructureScores(scores.alone)).cheapest("a", 2) == ([0, 1], 0.0)


def test_a_block_of_equals_takes_the_first():
    prices = Prices([GROUP], StructureScores({"a": torch.ones(3)}))
    assert prices.cheapest("a", 2) == ([0, 1], 2.0)
    assert prices.cheapest("a", 0) == ([], 0.0)


def test_scores_are_left_as_found():
    alone, interactions = _scores({"a": 3, "b": 2}, seed=5).alone, _symmetric(5, 5)
    scores = StructureScores({n: s.clone() for n, s in alone.items()}, interactions, in_nats=True)
    prices = Prices([_group("a", 3), _group("b", 2)], scores)
    prices.remove("a", [0, 2])
    assert all(torch.equal(scores.alone[n], s) for n, s in alone.items())
    assert torch.equal(interactions, _symmetric(5, 5))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite(bad):
    with pytest.raises(ScoreError, match="scores of group 'a': 2 of 3 are not finite"):
        Prices([GROUP], StructureScores({"a": torch.tensor([bad, 0, bad])}))


@pytest.mark.parametrize(("scores", "found"), [({}, "none"), ({"a": torch.zeros(2)}, r"shape \(2,\)")])
def test_scores_that_do_not_fit(scores, found):
    with pytest.raises(ScoreError, match=rf"scores of group 'a': {found}, expected shape \(3,\)"):
        Prices([GROUP], StructureScores(scores))


def test_scores_of_other_groups():
    scores = {"a": SCORES, "c": SCORES, "b": SCORES}
    with pytest.raises(ScoreError, match="scores of groups that are not there: 'b', 'c'"):
        Prices([GROUP], StructureScores(scores))


@pytest.mark.parametrize(
    ("shape", "message"), [((3, 2), r"shape \(3, 2\)"), ((2, 2), r"shape \(2, 2\)"), ((3,), r"shape \(3,\)")]
)
def test_interactions_that_do_not_fit(shape, message):
    with pytest.raises(ScoreError, match=rf"interactions: {message}, expected \(3, 3\)"):
        Prices([GROUP], StructureScores({"a": SCORES}, torch.zeros(shape), in_nats=True))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_interactions_that_are_not_finite(bad):
    interactions = torch.zeros(3, 3)
    interactions[0, 2] = interactions[2, 0] = bad
    with pytest.raises(ScoreError, match="interactions: 2 are not finite"):
        Prices([GROUP], StructureScores({"a": SCORES}, interactions, in_nats=True))


def test_interactions_that_are_not_symmetric():
    interactions = _symmetric(3, 6)
    interactions[0, 0], interactions[0, 1], interactions[1, 0] = 10, 2, 2 + 9e-6
    Prices([GROUP], StructureScores({"a": SCORES}, interactions, in_nats=True))
    interactions[1, 0] = 2.5
    with pytest.raises(ScoreError, match=r"interactions: not symmetric, entries differ by up to 0\.5 of 10"):
        Prices([GROUP], StructureScores({"a": SCORES}, interactions, in_nats=True))

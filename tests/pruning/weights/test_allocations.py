"""How many weights go where: what holds for every allocation, and what each adds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oba import registry
from oba.errors import BudgetError, ConfigError
from oba.pruning.weights.apportion import apportion
from oba.pruning.weights.problem import WeightProblem, largest, make_weight_allocation

SHAPES = {"conv1": (8, 3, 3, 3), "conv2": (16, 8, 3, 3), "depthwise": (16, 1, 3, 3), "fc": (10, 16)}
TOTAL = sum(math.prod(shape) for shape in SHAPES.values())
NAMES = registry.names("weight allocation")


def problem(keep, seed=0, masks=None, equal=False):
    draw = torch.Generator().manual_seed(seed)
    scores = {name: torch.rand(shape, generator=draw) for name, shape in SHAPES.items()}
    if equal:
        scores = {name: (score * 3).floor() for name, score in scores.items()}
    whole = {name: torch.ones(shape, dtype=torch.bool) for name, shape in SHAPES.items()}
    return WeightProblem(scores, masks or whole, keep)


def count(masks):
    return {name: int(mask.sum()) for name, mask in masks.items()}


def select(name, of, **options):
    return make_weight_allocation(name, **options).select(of)


@pytest.mark.parametrize("name", NAMES)
def test_a_level_of_1_keeps_all(name):
    of = problem(1.0)
    assert count(select(name, of)) == count(of.masks)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "n-m"])
@given(keep=st.floats(0.002, 1), seed=st.integers(0, 99), equal=st.booleans())
@settings(max_examples=15)
def test_a_level_is_met_exactly_from_below_and_nothing_comes_back(name, keep, seed, equal):
    first = select(name, problem(keep, seed, equal=equal))
    assert sum(count(first).values()) == math.floor(keep * TOTAL + 1e-9)
    lower = problem(keep / 2, seed + 1, first, equal=equal)
    second = select(name, lower)
    assert sum(count(second).values()) == lower.budget
    for key, mask in second.items():
        assert not (mask & ~first[key]).any()
    again = select(name, lower)
    assert all(torch.equal(again[key], mask) for key, mask in second.items()), "ties, too"


@pytest.mark.parametrize("name", NAMES)
def test_within_a_layer_the_lowest_scores_go(name):
    of = problem(0.5)
    for key, mask in select(name, of).items():
        kept, gone = of.scores[key][mask], of.scores[key][~mask]
        if name != "n-m" and len(gone):
            assert kept.min() > gone.max()
        assert kept.mean() > of.scores[key].mean() - 1e-6


def test_global_is_one_ranking():
    of = problem(0.3)
    flat = torch.cat([score.flatten() for score in of.scores.values()])
    threshold = flat.sort(descending=True).values[of.budget - 1]
    for key, mask in select("global", of).items():
        assert torch.equal(mask, of.scores[key] >= threshold)


def test_global_may_empty_a_layer_unless_it_has_a_floor():
    of = problem(0.5)
    of.scores["conv2"].mul_(1e-6)
    assert count(select("global", of))["conv2"] < 0.5 * 1152
    of = problem(0.1)
    of.scores["depthwise"].mul_(1e-6)
    assert count(select("global", of))["depthwise"] == 0
    kept = select("global", of, floor=0.05)
    assert count(kept)["depthwise"] == math.ceil(0.05 * 144)
    assert sum(count(kept).values()) == of.budget
    best = of.scores["depthwise"].flatten().topk(8).indices
    assert kept["depthwise"].flatten()[best].all()


def test_a_level_below_the_floor_is_refused():
    allocation = make_weight_allocation("global", floor=0.2)
    shapes = {name: torch.Size(shape) for name, shape in SHAPES.items()}
    allocation.require(shapes, 0.21)
    with pytest.raises(BudgetError, match=r"keep=0\.15 cannot be reached: .* with floor=0\.2 keeps 0\.20"):
        allocation.require(shapes, 0.15)


def test_uniform_keeps_the_same_fraction_of_every_layer():
    for name, kept in count(select("uniform", problem(0.3))).items():
        assert abs(kept - 0.3 * math.prod(SHAPES[name])) < 1


def test_erk_follows_its_definition():
    """Density proportional to the sum over the product of a weight's dimensions, dense where that exceeds 1."""
    kept = count(select("erk", problem(0.5)))
    raw = {name: sum(shape) / math.prod(shape) for name, shape in SHAPES.items()}
    dense: set[str] = set()
    while True:
        others = [name for name in SHAPES if name not in dense]
        left = 0.5 * TOTAL - sum(math.prod(SHAPES[name]) for name in dense)
        scale = left / sum(raw[name] * math.prod(SHAPES[name]) for name in others)
        if not (over := {name for name in others if scale * raw[name] > 1}):
            break
        dense |= over
    assert dense == {"depthwise", "fc"}
    for name in SHAPES:
        expected = math.prod(SHAPES[name]) * (1 if name in dense else scale * raw[name])
        assert abs(kept[name] - expected) < 1


def test_erk_without_caps_is_proportional_to_the_sum_of_dimensions():
    kept = count(select("erk", problem(0.05)))
    per_dimension = [kept[name] / sum(SHAPES[name]) for name in SHAPES]
    assert max(per_dimension) - min(per_dimension) < 1 / 16


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8), (1, 4), (2, 3)])
def test_n_of_every_m_consecutive_inputs_stay(n, m):
    of = problem(n / m)
    for key, mask in select("n-m", of, n=n, m=m).items():
        outputs, inputs = SHAPES[key][:2]
        for o in range(outputs):
            rows = mask[o].reshape(inputs, -1)
            scores = of.scores[key][o].reshape(inputs, -1)
            for start in range(0, inputs, m):
                for position in range(rows.shape[1]):
                    block = rows[start : start + m, position]
                    assert int(block.sum()) == min(n, len(block))
                    best = scores[start : start + m, position].topk(min(n, len(block))).indices
                    assert block[best].all()


def test_rounds_before_the_last_have_looser_patterns():
    looser = select("n-m", problem(0.75))
    assert set(looser["fc"].unflatten(1, (-1, 4)).sum(-1).flatten().tolist()) == {3}
    final = select("n-m", problem(0.5, masks=looser))
    assert set(final["fc"].unflatten(1, (-1, 4)).sum(-1).flatten().tolist()) == {2}
    assert not (final["fc"] & ~looser["fc"]).any()


def test_a_pattern_has_one_level():
    allocation = make_weight_allocation("n-m", n=2, m=4)
    allocation.require({}, 0.5)
    with pytest.raises(BudgetError) as caught:
        allocation.require({}, 0.3)
    assert str(caught.value) == (
        "keep=0.3 cannot be reached: allocation 'n-m' keeps 2 of every 4 weights; allowed: keep: [0.5]"
    )
    with pytest.raises(ConfigError, match=r"allocation 'n-m': n: got 4; allowed: less than m \(4\)"):
        make_weight_allocation("n-m", n=4, m=4)


def test_of_equal_scores_the_first_stay():
    ranks = torch.tensor([1.0, 2.0, 1.0, 0.0, 1.0, 1.0])
    assert largest(ranks, 3).tolist() == [True, True, True, False, False, False]
    assert largest(ranks, 0).sum() == 0
    assert largest(ranks, 9).all()


@given(data=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 60)), min_size=1, max_size=8), part=st.floats(0, 1.2))
def test_shares_are_met_within_limits(data, part):
    shares, most = [share for share, _ in data], [limit for _, limit in data]
    total = int(part * sum(most))
    found = apportion(total, shares, most)
    assert sum(found) == min(total, sum(most))
    assert all(0 <= count <= limit for count, limit in zip(found, most, strict=True))
    # Whoever is below its limit sets the scale, within one for rounding, that nobody exceeds by more than one.
    for count, share, limit in zip(found, shares, most, strict=True):
        if count < limit:
            assert all(other <= (count + 1) / share * its + 1 + 1e-9 for other, its in zip(found, shares, strict=True))

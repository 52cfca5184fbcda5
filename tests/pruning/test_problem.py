"""Rounds: budgets, floors that do not allow them, and parts of a method by name."""

from __future__ import annotations

import pytest
from chains import chain, posed

from oba.config import Floors
from oba.errors import BudgetError, ConfigError
from oba.pruning.greedy import remove_to_budget
from oba.pruning.problem import budget_of, lowest_keep, make_allocation, require_reachable

UNREACHABLE = (
    "keep=0.3 cannot be reached: with max_removed=0.6, min_channels=2, round_to=1 over 1 groups of structures the "
    "lowest is keep=0.4000; choose higher levels of keep, raise floors.max_removed, lower floors.min_channels or "
    "round_to, shorten structures.ignore or set structures.residual_streams"
)


@pytest.mark.parametrize("allocation", ["global", "per-mac", "uniform"])
def test_a_budget_that_cannot_be_reached_is_refused(allocation):
    groups, cost = chain([1, 10, 1], [10, 1])
    problem = posed(groups, cost, {"0": [1.0] * 10}, keep=0.3, max_removed=0.6, min_channels=2)
    with pytest.raises(BudgetError) as info:
        make_allocation(allocation).select(problem)
    assert str(info.value) == UNREACHABLE


def test_lowest_keep_is_the_edge_of_what_is_allowed():
    groups, cost = chain([3, 17, 9, 4], [10, 3, 2])
    floors = Floors(max_removed=0.7)
    counts = {g.name: len(g) for g in groups}
    keep = lowest_keep(groups, cost, floors)
    require_reachable(groups, cost, keep=keep, floors=floors, dense_counts=counts, dense_macs=cost.macs)
    with pytest.raises(BudgetError):
        require_reachable(groups, cost, keep=keep - 1e-3, floors=floors, dense_counts=counts, dense_macs=cost.macs)
    problem = posed(groups, cost, {g.name: [1.0] * len(g) for g in groups}, keep=keep, max_removed=0.7)
    chosen = remove_to_budget(problem)
    assert chosen.macs == round(keep * cost.macs) == problem.budget
    assert {n: len(r) for n, r in chosen.removed.items()} == {"0": 11, "1": 6}


def test_the_lowest_level_of_wide_structures_is_counted_in_channels():
    groups, cost = chain([1, 24, 1], [10, 1], rows=4)
    assert lowest_keep(groups, cost, Floors(min_channels=5)) == pytest.approx(8 / 24)
    assert lowest_keep(groups, cost, Floors(min_channels=5, round_to=16)) == pytest.approx(16 / 24)


def test_the_budget_is_a_whole_number_that_rounding_does_not_cost_a_mac():
    assert budget_of(0.3, 10) == 3
    assert budget_of(0.1 + 0.2, 10) == budget_of(0.3 - 1e-12, 10) == 3
    assert budget_of(0.39, 10) == 3


def test_a_round_hands_out_prices_of_its_own():
    groups, cost = chain([1, 2, 1], [1, 1])
    problem = posed(groups, cost, {"0": [1.0, 2.0]}, keep=0.5)
    problem.prices().remove("0", [0])
    assert problem.prices().marginals("0").tolist() == [1, 2]


def test_an_allocation_is_made_by_name_with_options_of_its_own():
    assert make_allocation("per-mac").name == "per-mac"
    assert make_allocation("global").name == "global"
    with pytest.raises(ConfigError, match=r"^allocation: unknown allocation 'globl' \(did you mean 'global'\?\)"):
        make_allocation("globl")
    with pytest.raises(ConfigError, match=r"^allocation 'global' has no option 'rank'; allowed: scope$"):
        make_allocation("global", rank="per-mac")

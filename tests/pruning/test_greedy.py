"""Greedy removal: order, floors, multiples, and the budget; ``test_greedy_naive.py`` compares it with another way."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from chains import chain, posed
from hypothesis import given
from hypothesis import strategies as st

from oba.config import Floors
from oba.errors import BudgetError
from oba.pruning.greedy import remove_counts, remove_to_budget
from oba.pruning.problem import TOLERANCE, lowest_keep, make_allocation
from oba.structures import HEAD


def select(groups, cost, scores, keep, *, per_mac=False, **settings):
    return remove_to_budget(posed(groups, cost, scores, keep, **settings), per_mac=per_mac)


def test_the_lowest_go_first_over_all_groups():
    groups, cost = chain([1, 4, 4, 1], [10, 1, 10])
    chosen = select(groups, cost, {"0": [4, 1, 3, 9], "1": [2, 8, 7, 6]}, keep=0.59)
    assert chosen.removed == {"0": (1, 2), "1": (0,)}
    assert cost.macs == 96, "the caller's cost model is left as found"
    assert chosen.macs == 10 * 2 + 2 * 3 + 10 * 3


def test_equal_scores_go_in_the_order_of_the_net():
    groups, cost = chain([1, 4, 4, 1], [10, 1, 10])
    assert select(groups, cost, {"0": [1] * 4, "1": [1] * 4}, keep=0.59, max_removed=0.5).removed == {
        "0": (0, 1),
        "1": (0,),
    }


def test_kinds_that_are_ranked_by_themselves_shrink_at_one_pace():
    groups, cost = chain([1, 4, 8, 1], [10, 1, 10])
    groups = [replace(groups[0], kind=HEAD), groups[1]]
    scores = {"0": [10, 20, 30, 40], "1": list(range(8))}
    problem = posed(groups, cost, scores, 0.6, dense={"0": 4, "1": 8})
    assert remove_to_budget(problem).removed == {"1": (0, 1, 2, 3, 4)}
    assert remove_to_budget(problem, scope="kind").removed == {"0": (0,), "1": (0, 1, 2, 3)}
    ahead = posed(groups, cost, scores, 0.6, dense={"0": 8, "1": 8})
    assert remove_to_budget(ahead, scope="kind").removed == {"1": (0, 1, 2, 3, 4)}, "half of the heads have gone before"


def test_a_met_budget_removes_nothing():
    groups, cost = chain([1, 4, 1], [1, 1])
    assert select(groups, cost, {"0": [1, 2, 3, 4]}, keep=1.0).removed == {}


def test_floors_count_from_the_dense_net():
    groups, cost = chain([1, 6, 100, 1], [10, 1, 100])
    scores = {"0": [0.0] * 6, "1": [1.0] * 100}
    chosen = select(groups, cost, scores, keep=0.6, dense={"0": 10, "1": 100}, max_removed=0.5)
    assert len(chosen.removed["0"]) == 1, "5 of 10 stay, 6 were left"
    chosen = select(groups, cost, scores, keep=0.6, min_channels=4)
    assert len(chosen.removed["0"]) == 2


def test_round_to_goes_in_blocks():
    groups, cost = chain([1, 20, 3, 1], [10, 1, 10])
    scores = {"0": list(range(20)), "1": [100, 101, 102]}
    assert select(groups, cost, scores, keep=0.83, round_to=8).removed == {"0": (0, 1, 2, 3)}
    assert select(groups, cost, scores, keep=0.47, round_to=8).removed == {"0": tuple(range(12))}
    with pytest.raises(BudgetError):
        select(groups, cost, scores, keep=0.2, round_to=8)


def test_the_block_with_the_lowest_mean_goes():
    groups, cost = chain([1, 4, 4, 1], [10, 1, 10])
    scores = {"0": [0, 10, 11, 12], "1": [4, 5, 20, 20]}
    assert select(groups, cost, scores, keep=0.9, round_to=2).removed == {"1": (0, 1)}


def test_layers_too_narrow_for_a_multiple_go_one_by_one():
    groups, cost = chain([1, 3, 16, 1], [100, 1, 1])
    scores = {"0": [1, 0, 2], "1": [5.0] * 16}
    assert select(groups, cost, scores, keep=0.7, round_to=8).removed == {"0": (1,)}


def test_wide_structures_round_by_channels():
    groups, cost = chain([1, 24, 1], [10, 1], rows=4)
    chosen = select(groups, cost, {"0": [5, 4, 3, 2, 1, 0]}, keep=0.9, round_to=8)
    assert chosen.removed == {"0": (4, 5)}


def test_a_block_that_ends_too_low_is_passed_over():
    """The cheap structure of the first group is worth 40 % of the MACs; the budget asks for 10 %."""
    groups, cost = chain([1, 2, 50, 1], [400, 0, 2])
    scores = {"0": [0.0, 0.1], "1": list(range(1, 51))}
    chosen = select(groups, cost, scores, keep=0.9)
    assert chosen.removed == {"1": tuple(range(45))}
    assert chosen.macs == pytest.approx(0.9 * cost.macs)


def test_the_smallest_goes_where_all_end_too_low():
    groups, cost = chain([1, 2, 3, 1], [60, 0, 30])
    chosen = select(groups, cost, {"0": [0.0, 0.0], "1": [5.0, 6.0, 7.0]}, keep=0.97)
    assert chosen.removed == {"1": (0,)}


def test_prices_depend_on_what_is_gone():
    """The two cheapest do each other's work: once one is gone, the other is the dearest of all."""
    groups, cost = chain([1, 4, 4, 1], [10, 1, 10])
    scores = {"0": [0.0, 5, 6, 7], "1": [1.0, 8, 9, 10]}
    twins = torch.zeros(8, 8)
    twins[0, 4] = twins[4, 0] = 100
    assert select(groups, cost, scores, keep=0.72).removed == {"0": (0,), "1": (0,)}
    assert select(groups, cost, scores, keep=0.72, interactions=twins).removed == {"0": (0, 1)}


def test_per_mac_divides_by_what_a_removal_saves():
    groups, cost = chain([1, 2, 4, 1], [36, 1, 18])
    assert [cost.saving(g, 1) for g in groups] == [40, 20]
    scores = {"0": [3.0, 99], "1": [2.0, 2.5, 99, 99]}
    keep = (cost.macs - 40) / cost.macs
    assert select(groups, cost, scores, keep=keep).removed == {"1": (0, 1)}
    assert select(groups, cost, scores, keep=keep, per_mac=True).removed == {"0": (0,)}


def test_per_mac_counts_savings_anew():
    """The second group saves 202 MACs at first, and 102 once the layer it shares with the first one is narrower."""
    groups, cost = chain([1, 2, 2, 2, 2, 2, 2, 1], [1, 100, 1, 80, 1, 60, 1])
    savings = [cost.saving(g, 1) for g in groups]
    assert savings == [201, 202, 162, 162, 122, 121]
    scores = {g.name: [1000.0] * 2 for g in groups}
    scores |= {"0": [1.0, 1000.0], "1": [9.0, 1000.0], "2": [10.0, 1000.0], "4": [8.5, 1000.0]}
    assert 1 / 201 < 9 / 202 < 10 / 162 < 8.5 / 122 < 9 / 102
    chosen = select(groups, cost, scores, keep=(cost.macs - 201 - 162 - 122) / cost.macs, per_mac=True)
    assert chosen.removed == {"0": (0,), "2": (0,), "4": (0,)}
    assert chosen.macs == cost.macs - 201 - 162 - 122


def test_per_mac_sets_the_price_of_a_block_against_all_that_it_saves():
    """Four structures for 4 save 40 MACs, one for 1 saves 20; a group of three goes one by one."""
    groups, cost = chain([1, 8, 3, 1], [10, 0, 20])
    scores = {"0": [1.0] * 8, "1": [1.0, 1.0, 99.0]}
    keep = (cost.macs - 40) / cost.macs
    assert select(groups, cost, scores, keep=keep, per_mac=True, round_to=4).removed == {"1": (0, 1)}


def test_negative_blocks_go_by_their_mean():
    groups, cost = chain([1, 8, 3, 1], [10, 0, 20])
    scores = {"0": [-1.0] * 8, "1": [-2.0, -2.0, 99.0]}
    keep = (cost.macs - 40) / cost.macs
    for per_mac in (False, True):
        assert select(groups, cost, scores, keep=keep, per_mac=per_mac, round_to=4).removed == {"1": (0, 1)}


def test_per_mac_takes_negative_prices_first_by_value():
    groups, cost = chain([2] * 7, [100, 101, 25, 25, 50, 50])
    assert [cost.saving(g, 1) for g in groups] == [402, 252, 100, 150, 200]
    scores = {"0": [-2.0, 1000.0], "1": [1000.0] * 2, "2": [-1.5, 1000.0], "3": [1000.0] * 2, "4": [1e-6, 1000.0]}
    assert -1.5 / 100 < -2 / 402
    chosen = select(groups, cost, scores, keep=(cost.macs - 402) / cost.macs, per_mac=True)
    assert chosen.removed == {"0": (0,)}
    chosen = select(groups, cost, scores, keep=(cost.macs - 502) / cost.macs, per_mac=True)
    assert chosen.removed == {"0": (0,), "2": (0,)}


def test_per_mac_takes_what_saves_nothing_last_unless_the_net_is_better_off():
    groups, cost = chain([1, 3, 3, 3, 1], [0, 0, 10, 10])
    scores = {"0": [-1.0, 0.0, 1e-9], "1": [5.0, 6.0, 7.0], "2": [8.0, 9.0, 10.0]}
    chosen = select(groups, cost, scores, keep=0.5, per_mac=True)
    assert chosen.removed["0"] == (0,)
    assert sum(map(len, chosen.removed.values())) > 1


@given(data=st.data())
def test_budget_and_floors_hold(data):
    widths = data.draw(st.lists(st.integers(1, 24), min_size=3, max_size=6))
    units = data.draw(st.lists(st.integers(1, 50), min_size=len(widths) - 1, max_size=len(widths) - 1))
    groups, cost = chain(widths, units)
    floors = Floors(
        max_removed=data.draw(st.floats(0.1, 0.95)),
        min_channels=data.draw(st.integers(1, 4)),
        round_to=data.draw(st.sampled_from([1, 2, 4, 8])),
    )
    lowest = lowest_keep(groups, cost, floors)
    keep = data.draw(st.floats(lowest, 1.0))
    scores = {g.name: data.draw(st.lists(st.floats(0, 1), min_size=len(g), max_size=len(g))) for g in groups}
    dense = cost.macs
    chosen = select(groups, cost, scores, keep, per_mac=data.draw(st.booleans()), **floors.model_dump())
    assert chosen.macs <= keep * dense + 1e-6
    left = cost.copy()
    for g in groups:
        gone = len(chosen.removed.get(g.name, ()))
        kept = len(g) - gone
        if gone:
            assert gone <= floors.max_removed * len(g) + 1e-6
            assert kept >= floors.min_channels
            assert kept % floors.round_to == 0 or len(g) < floors.round_to
        left.remove(g, gone)
    assert left.macs == chosen.macs
    _assert_tight(groups, cost, chosen, keep, dense, floors)


def _assert_tight(groups, cost, chosen, keep, dense, floors):
    """More than 2 % below the budget only if a single block more would be over it."""
    if chosen.macs >= (keep - TOLERANCE) * dense - 1 or not chosen.removed:
        return
    left = cost.copy()
    for g in groups:
        left.remove(g, len(chosen.removed.get(g.name, ())))
    back = []
    for g in groups:
        gone, kept = len(chosen.removed.get(g.name, ())), len(g) - len(chosen.removed.get(g.name, ()))
        if gone:
            step = floors.round_to if len(g) >= floors.round_to else 1
            back.append(left.saving(g, -min(step, len(g) - kept)))
    assert any(left.macs - saving > keep * dense for saving in back)


@pytest.mark.parametrize("per_mac", [False, True])
@pytest.mark.parametrize(("layers", "width", "interacting"), [(48, 128, False), (16, 128, True)])
def test_thousands_of_structures_can_be_ranked(layers, width, interacting, per_mac):
    groups, cost = chain([3, *[width] * layers, 10], [50] * (layers + 1))
    draw = torch.Generator().manual_seed(0)
    scores = {g.name: torch.randn(width, generator=draw).tolist() for g in groups}
    matrix = torch.randn(width * layers, width * layers, generator=draw).double()
    interactions = (matrix + matrix.T) / 1000 if interacting else None
    chosen = select(groups, cost, scores, 0.02, per_mac=per_mac, interactions=interactions)
    assert sum(map(len, chosen.removed.values())) > 0.8 * width * layers


def test_given_numbers_go_whatever_is_left_of_the_budget():
    groups, cost = chain([1, 4, 4, 1], [10, 1, 10])
    problem = posed(groups, cost, {"0": [4, 1, 3, 9], "1": [2, 8, 7, 6]}, keep=0.9)
    chosen = remove_counts(problem, {"0": 3, "1": 1})
    assert chosen.removed == {"0": (0, 1, 2), "1": (0,)}
    assert chosen.macs == 10 * 1 + 1 * 3 + 10 * 3
    assert remove_counts(problem, {"1": 2}).removed == {"1": (0, 3)}
    assert remove_counts(problem, {}).removed == {}


def test_given_numbers_of_all_groups_go_in_turn():
    """Who goes from one group depends on what has gone from the other: the cheapest of all goes first."""
    groups, cost = chain([1, 3, 3, 1], [10, 1, 10])
    scores = {"0": [2.0, 3.0, 9.0], "1": [1.0, 8.0, 9.0]}
    pairs = torch.zeros(6, 6)
    pairs[0, 3] = pairs[3, 0] = 5
    problem = posed(groups, cost, scores, keep=0.5, interactions=pairs)
    assert remove_counts(problem, {"0": 1, "1": 1}).removed == {"0": (1,), "1": (0,)}


def test_given_numbers_stop_at_the_floors():
    groups, cost = chain([1, 8, 3, 1], [10, 1, 10])
    problem = posed(groups, cost, {"0": list(range(8)), "1": [5, 5, 5]}, keep=0.9, min_channels=2, round_to=2)
    assert remove_counts(problem, {"0": 8, "1": 3}).removed == {"0": (0, 1, 2, 3, 4, 5), "1": (0,)}


@pytest.mark.parametrize(("name", "per_mac"), [("global", False), ("per-mac", True)])
def test_two_allocations_are_greedy_removals(name, per_mac):
    groups, cost = chain([1, 2, 4, 1], [36, 1, 18])
    problem = posed(groups, cost, {"0": [3.0, 99], "1": [2.0, 2.5, 99, 99]}, keep=(cost.macs - 40) / cost.macs)
    assert make_allocation(name).select(problem) == remove_to_budget(problem, per_mac=per_mac)
    assert make_allocation(name).select(problem) != remove_to_budget(problem, per_mac=not per_mac)

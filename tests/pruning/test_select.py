"""Selection: order, floors, multiples, the budget, and budgets that cannot be met."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oba.config import PruningConfig
from oba.errors import BudgetError
from oba.importance.model import StructureModel
from oba.pruning.cost import CostModel, LayerCost
from oba.pruning.prices import Normalizer, Prices
from oba.pruning.select import TOLERANCE, lowest_keep, require_reachable, select
from oba.structures import Slice, StructureGroup


def _chain(widths: Sequence[int], units: Sequence[int], *, rows: int = 1):
    """Groups and costs of a chain of layers: layer i has widths[i] inputs, widths[i + 1] outputs."""
    costs = {str(i): LayerCost(unit, widths[i + 1], widths[i]) for i, unit in enumerate(units)}
    groups = []
    for i in range(len(units) - 1):
        indices = tuple(tuple(range(rows * j, rows * j + rows)) for j in range(widths[i + 1] // rows))
        groups.append(StructureGroup(str(i), (Slice(str(i), "out", indices), Slice(str(i + 1), "in", indices))))
    return groups, CostModel(costs, 0, frozenset())


def _select(
    groups,
    cost,
    scores,
    keep,
    normalizer: Normalizer = "none",
    dense=None,
    dense_macs=None,
    interactions=None,
    **pruning,
):
    model = StructureModel({n: torch.tensor(s, dtype=torch.float64) for n, s in scores.items()}, interactions)
    return select(
        groups,
        Prices(groups, model, normalizer),
        cost,
        keep=keep,
        pruning=PruningConfig(**pruning),
        dense_counts=dense or {g.name: len(g) for g in groups},
        dense_macs=dense_macs or cost.macs,
    )


def test_the_lowest_go_first_over_all_groups():
    groups, cost = _chain([1, 4, 4, 1], [10, 1, 10])
    chosen = _select(groups, cost, {"0": [4, 1, 3, 9], "1": [2, 8, 7, 6]}, keep=0.59)
    assert chosen.removed == {"0": (1, 2), "1": (0,)}
    assert cost.macs == 96, "the caller's cost model is left as found"
    assert chosen.macs == 10 * 2 + 2 * 3 + 10 * 3


def test_normalizer_changes_the_order():
    groups, cost = _chain([1, 2, 2, 1], [10, 1, 10])
    scores = {"0": [1.0, 2.0], "1": [30.0, 100.0]}
    assert _select(groups, cost, scores, keep=0.8).removed == {"0": (0,)}
    assert _select(groups, cost, scores, keep=0.8, normalizer="max").removed == {"1": (0,)}


def test_equal_scores_go_in_the_order_of_the_net():
    groups, cost = _chain([1, 4, 4, 1], [10, 1, 10])
    assert _select(groups, cost, {"0": [1] * 4, "1": [1] * 4}, keep=0.59, max_removed=0.5).removed == {
        "0": (0, 1),
        "1": (0,),
    }


def test_a_met_budget_removes_nothing():
    groups, cost = _chain([1, 4, 1], [1, 1])
    assert _select(groups, cost, {"0": [1, 2, 3, 4]}, keep=1.0).removed == {}


def test_floors_count_from_the_dense_net():
    groups, cost = _chain([1, 6, 100, 1], [10, 1, 100])
    scores = {"0": [0.0] * 6, "1": [1.0] * 100}
    chosen = _select(groups, cost, scores, keep=0.6, dense={"0": 10, "1": 100}, dense_macs=cost.macs, max_removed=0.5)
    assert len(chosen.removed["0"]) == 1, "5 of 10 stay, 6 were left"
    chosen = _select(groups, cost, scores, keep=0.6, min_channels=4)
    assert len(chosen.removed["0"]) == 2


def test_round_to_goes_in_blocks():
    groups, cost = _chain([1, 20, 3, 1], [10, 1, 10])
    scores = {"0": list(range(20)), "1": [100, 101, 102]}
    assert _select(groups, cost, scores, keep=0.83, round_to=8).removed == {"0": (0, 1, 2, 3)}
    assert _select(groups, cost, scores, keep=0.47, round_to=8).removed == {"0": tuple(range(12))}
    with pytest.raises(BudgetError):
        _select(groups, cost, scores, keep=0.2, round_to=8)


def test_the_block_with_the_lowest_mean_goes():
    groups, cost = _chain([1, 4, 4, 1], [10, 1, 10])
    scores = {"0": [0, 10, 11, 12], "1": [4, 5, 20, 20]}
    assert _select(groups, cost, scores, keep=0.9, round_to=2).removed == {"1": (0, 1)}


def test_layers_too_narrow_for_a_multiple_go_one_by_one():
    groups, cost = _chain([1, 3, 16, 1], [100, 1, 1])
    scores = {"0": [1, 0, 2], "1": [5.0] * 16}
    assert _select(groups, cost, scores, keep=0.7, round_to=8).removed == {"0": (1,)}


def test_wide_structures_round_by_channels():
    groups, cost = _chain([1, 24, 1], [10, 1], rows=4)
    chosen = _select(groups, cost, {"0": [5, 4, 3, 2, 1, 0]}, keep=0.9, round_to=8)
    assert chosen.removed == {"0": (4, 5)}
    assert lowest_keep(groups, cost, PruningConfig(min_channels=5)) == pytest.approx(8 / 24)
    assert lowest_keep(groups, cost, PruningConfig(min_channels=5, round_to=16)) == pytest.approx(16 / 24)


def test_a_block_that_ends_too_low_is_passed_over():
    """The cheap structure of the first group is worth 40 % of the MACs; the budget asks for 10 %."""
    groups, cost = _chain([1, 2, 50, 1], [400, 0, 2])
    scores = {"0": [0.0, 0.1], "1": list(range(1, 51))}
    chosen = _select(groups, cost, scores, keep=0.9)
    assert chosen.removed == {"1": tuple(range(45))}
    assert chosen.macs == pytest.approx(0.9 * cost.macs)


def test_the_smallest_goes_where_all_end_too_low():
    groups, cost = _chain([1, 2, 3, 1], [60, 0, 30])
    chosen = _select(groups, cost, {"0": [0.0, 0.0], "1": [5.0, 6.0, 7.0]}, keep=0.97)
    assert chosen.removed == {"1": (0,)}


def test_unreachable_budget():
    groups, cost = _chain([1, 10, 1], [10, 1])
    with pytest.raises(BudgetError) as info:
        _select(groups, cost, {"0": [1.0] * 10}, keep=0.3, max_removed=0.6, min_channels=2)
    assert str(info.value) == (
        "keep=0.3 cannot be reached: with max_removed=0.6, min_channels=2, round_to=1 over 1 groups of structures the "
        "lowest is keep=0.4000; choose higher levels of keep, raise pruning.max_removed, lower pruning.min_channels or "
        "round_to, shorten structures.ignore or set structures.residual_streams"
    )


def test_lowest_keep_is_the_edge_of_what_is_allowed():
    groups, cost = _chain([3, 17, 9, 4], [10, 3, 2])
    floors = PruningConfig(max_removed=0.7)
    counts = {g.name: len(g) for g in groups}
    keep = lowest_keep(groups, cost, floors)
    require_reachable(groups, cost, keep=keep, floors=floors, dense_counts=counts, dense_macs=cost.macs)
    with pytest.raises(BudgetError):
        require_reachable(groups, cost, keep=keep - 1e-3, floors=floors, dense_counts=counts, dense_macs=cost.macs)
    chosen = _select(groups, cost, {g.name: [1.0] * len(g) for g in groups}, keep=keep, max_removed=0.7)
    assert chosen.macs == round(keep * cost.macs)
    assert {n: len(r) for n, r in chosen.removed.items()} == {"0": 11, "1": 6}


def test_prices_depend_on_what_is_gone():
    """The two cheapest do each other's work: once one is gone, the other is the dearest of all."""
    groups, cost = _chain([1, 4, 4, 1], [10, 1, 10])
    scores = {"0": [0.0, 5, 6, 7], "1": [1.0, 8, 9, 10]}
    twins = torch.zeros(8, 8)
    twins[0, 4] = twins[4, 0] = 100
    assert _select(groups, cost, scores, keep=0.72).removed == {"0": (0,), "1": (0,)}
    assert _select(groups, cost, scores, keep=0.72, interactions=twins).removed == {"0": (0, 1)}


def test_per_mac_divides_by_what_a_removal_saves():
    groups, cost = _chain([1, 2, 4, 1], [36, 1, 18])
    assert [cost.saving(g, 1) for g in groups] == [40, 20]
    scores = {"0": [3.0, 99], "1": [2.0, 2.5, 99, 99]}
    keep = (cost.macs - 40) / cost.macs
    assert _select(groups, cost, scores, keep=keep).removed == {"1": (0, 1)}
    assert _select(groups, cost, scores, keep=keep, rank="per-mac").removed == {"0": (0,)}


def test_per_mac_counts_savings_anew():
    """The second group saves 202 MACs at first, and 102 once the layer it shares with the first one is narrower."""
    groups, cost = _chain([1, 2, 2, 2, 2, 2, 2, 1], [1, 100, 1, 80, 1, 60, 1])
    savings = [cost.saving(g, 1) for g in groups]
    assert savings == [201, 202, 162, 162, 122, 121]
    scores = {g.name: [1000.0] * 2 for g in groups}
    scores |= {"0": [1.0, 1000.0], "1": [9.0, 1000.0], "2": [10.0, 1000.0], "4": [8.5, 1000.0]}
    assert 1 / 201 < 9 / 202 < 10 / 162 < 8.5 / 122 < 9 / 102
    chosen = _select(groups, cost, scores, keep=(cost.macs - 201 - 162 - 122) / cost.macs, rank="per-mac")
    assert chosen.removed == {"0": (0,), "2": (0,), "4": (0,)}
    assert chosen.macs == cost.macs - 201 - 162 - 122


def test_per_mac_sets_the_price_of_a_block_against_all_that_it_saves():
    """Four structures for 4 save 40 MACs, one for 1 saves 20; a group of three goes one by one."""
    groups, cost = _chain([1, 8, 3, 1], [10, 0, 20])
    scores = {"0": [1.0] * 8, "1": [1.0, 1.0, 99.0]}
    keep = (cost.macs - 40) / cost.macs
    assert _select(groups, cost, scores, keep=keep, rank="per-mac", round_to=4).removed == {"1": (0, 1)}


def test_negative_blocks_go_by_their_mean():
    groups, cost = _chain([1, 8, 3, 1], [10, 0, 20])
    scores = {"0": [-1.0] * 8, "1": [-2.0, -2.0, 99.0]}
    keep = (cost.macs - 40) / cost.macs
    for rank in ("score", "per-mac"):
        assert _select(groups, cost, scores, keep=keep, rank=rank, round_to=4).removed == {"1": (0, 1)}


def test_per_mac_takes_negative_prices_first_by_value():
    groups, cost = _chain([2] * 7, [100, 101, 25, 25, 50, 50])
    assert [cost.saving(g, 1) for g in groups] == [402, 252, 100, 150, 200]
    scores = {"0": [-2.0, 1000.0], "1": [1000.0] * 2, "2": [-1.5, 1000.0], "3": [1000.0] * 2, "4": [1e-6, 1000.0]}
    assert -1.5 / 100 < -2 / 402
    chosen = _select(groups, cost, scores, keep=(cost.macs - 402) / cost.macs, rank="per-mac")
    assert chosen.removed == {"0": (0,)}
    chosen = _select(groups, cost, scores, keep=(cost.macs - 502) / cost.macs, rank="per-mac")
    assert chosen.removed == {"0": (0,), "2": (0,)}


def test_per_mac_takes_what_saves_nothing_last_unless_the_net_is_better_off():
    groups, cost = _chain([1, 3, 3, 3, 1], [0, 0, 10, 10])
    scores = {"0": [-1.0, 0.0, 1e-9], "1": [5.0, 6.0, 7.0], "2": [8.0, 9.0, 10.0]}
    chosen = _select(groups, cost, scores, keep=0.5, rank="per-mac")
    assert chosen.removed["0"] == (0,)
    assert sum(map(len, chosen.removed.values())) > 1


@given(data=st.data())
def test_budget_and_floors_hold(data):
    widths = data.draw(st.lists(st.integers(1, 24), min_size=3, max_size=6))
    units = data.draw(st.lists(st.integers(1, 50), min_size=len(widths) - 1, max_size=len(widths) - 1))
    groups, cost = _chain(widths, units)
    floors = PruningConfig(
        rank=data.draw(st.sampled_from(["score", "per-mac"])),
        max_removed=data.draw(st.floats(0.1, 0.95)),
        min_channels=data.draw(st.integers(1, 4)),
        round_to=data.draw(st.sampled_from([1, 2, 4, 8])),
    )
    counts = {g.name: len(g) for g in groups}
    lowest = lowest_keep(groups, cost, floors)
    keep = data.draw(st.floats(lowest, 1.0))
    score = st.floats(0, 1)
    scores = {g.name: torch.tensor(data.draw(st.lists(score, min_size=len(g), max_size=len(g)))) for g in groups}
    dense = cost.macs
    chosen = select(
        groups,
        Prices(groups, StructureModel(scores), "max"),
        cost,
        keep=keep,
        pruning=floors,
        dense_counts=counts,
        dense_macs=dense,
    )
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


@pytest.mark.parametrize("rank", ["score", "per-mac"])
@pytest.mark.parametrize(("layers", "width", "interacting"), [(48, 128, False), (16, 128, True)])
def test_thousands_of_structures_can_be_ranked(layers, width, interacting, rank):
    groups, cost = _chain([3, *[width] * layers, 10], [50] * (layers + 1))
    draw = torch.Generator().manual_seed(0)
    scores = {g.name: torch.randn(width, generator=draw).double() for g in groups}
    matrix = torch.randn(width * layers, width * layers, generator=draw).double()
    model = StructureModel(scores, (matrix + matrix.T) / 1000 if interacting else None, in_nats=True)
    chosen = select(
        groups,
        Prices(groups, model, "none"),
        cost,
        keep=0.02,
        pruning=PruningConfig(rank=rank),
        dense_counts={g.name: width for g in groups},
        dense_macs=cost.macs,
    )
    assert sum(map(len, chosen.removed.values())) > 0.8 * width * layers

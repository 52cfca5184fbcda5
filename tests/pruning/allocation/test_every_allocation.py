"""What holds for every registered allocation, on real nets and random scores: also for those added later."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oba import registry
from oba.config import Floors
from oba.errors import BudgetError
from oba.importance.scores import StructureScores
from oba.pruning.allocation.uniform import uniform_widths
from oba.pruning.cost import CostModel, measure
from oba.pruning.problem import Problem, lowest_keep, make_allocation
from oba.pruning.replay import apply_plan, removal_plan

SIZE = (3, 8, 8)
NAMES = registry.names("allocation")
NEEDED = {"given": {"method": "another"}}
"""Options without which an allocation does not work."""


def _select(name, problem):
    return make_allocation(name, **NEEDED.get(name, {})).select(problem)


def _with_widths(problem):
    """Add the widths of another method, for the allocation that copies them."""
    gone = uniform_widths(problem).counts()
    return replace(problem, widths={g.name: len(g) - gone.get(g.name, 0) for g in problem.groups})


def _scores(draw, groups):
    rng = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    alone = {g.name: torch.randn(len(g), generator=rng).double() for g in groups}
    matrix, curves = None, None
    if draw(st.booleans()):
        total = sum(map(len, groups))
        matrix = torch.randn(total, total, generator=rng).double()
        matrix = matrix + matrix.T
    if draw(st.booleans()):
        rises = {g.name: torch.rand(len(g), generator=rng).double() for g in groups}
        curves = {n: torch.cat([torch.zeros(1).double(), r.cumsum(0)]) for n, r in rises.items()}
    return StructureScores(alone, matrix, curves=curves)


def _problem(draw, groups, cost):
    floors = Floors(
        max_removed=draw(st.sampled_from([0.95, 0.75, 0.5])),
        min_channels=draw(st.integers(1, 3)),
        round_to=draw(st.sampled_from([1, 2, 3, 4])),
    )
    lowest = lowest_keep(groups, cost, floors)
    keep = lowest + (1 - lowest) * draw(st.floats(0, 1))
    counts = {g.name: len(g) for g in groups}
    return _with_widths(Problem(groups, _scores(draw, groups), cost, keep, floors, counts, cost.macs))


def _allowed(group, kept, floors):
    """Say whether a group may keep so many, in words of channels."""
    multiples = [n for n in range(1, len(group) + 1) if n * group.width % floors.round_to == 0]
    removed = (len(group) - kept) * group.width
    return (
        kept * group.width >= floors.min_channels
        and removed <= floors.max_removed * len(group) * group.width + 1e-6
        and (kept in multiples or not multiples)
    )


@pytest.mark.parametrize("name", NAMES)
def test_budget_floors_and_blocks_hold(case, name):
    cost = CostModel.of(case.model, SIZE)

    @given(data=st.data())
    @settings(max_examples=6)
    def check(data):
        problem = _problem(data.draw, case.groups, cost)
        chosen = _select(name, problem)
        assert chosen.macs <= problem.budget
        for group in case.groups:
            removed = chosen.removed.get(group.name, ())
            assert list(removed) == sorted(set(removed))
            assert not removed or _allowed(group, len(group) - len(removed), problem.floors)
        net = copy.deepcopy(case.model)
        apply_plan(net, removal_plan(net, case.groups, chosen.removed))
        assert chosen.macs == measure(net, SIZE).macs
        assert _select(name, problem) == chosen
        assert cost.macs == problem.dense_macs, "the problem is left as found"

    check()


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=20)
def test_the_order_of_groups_decides_between_equals_only(chain, name, data):
    """No equals: no error is 0, and sizes are powers of 2, so no two blocks lie at one fraction of their groups."""
    sizes = data.draw(st.permutations([4, 8, 16, 32]))
    units = data.draw(st.lists(st.integers(1, 99), min_size=5, max_size=5))
    given_order = chain([3, *sizes, 7], units, keep=data.draw(st.floats(0.1, 0.9)))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    alone = {g.name: torch.rand(len(g), generator=rng).double() for g in given_order.groups}
    problem = _with_widths(replace(given_order, scores=StructureScores(alone)))
    turned = replace(problem, groups=data.draw(st.permutations(problem.groups)))
    assert _select(name, turned) == _select(name, problem)


@pytest.mark.parametrize("name", NAMES)
def test_a_met_budget_removes_nothing(chain, name):
    assert _select(name, _with_widths(chain([1, 4, 6, 1], [5, 2, 3], keep=1.0))).removed == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_budget_below_the_floors_is_refused(chain, name):
    widths = {"0": 2, "1": 3}
    with pytest.raises(BudgetError, match=r"keep"):
        _select(name, chain([1, 4, 6, 1], [5, 2, 3], keep=0.2, floors={"max_removed": 0.5}, widths=widths))


@pytest.mark.parametrize("name", NAMES)
def test_floors_count_from_the_dense_net(chain, name):
    """A net that an earlier level has cut: of 8 and 12 structures, 4 and 6 must stay."""
    problem = chain([1, 5, 6, 1], [5, 2, 3], keep=0.84, floors={"max_removed": 0.5})
    problem = _with_widths(replace(problem, dense_counts={"0": 8, "1": 12}))
    assert {n: len(r) for n, r in _select(name, problem).removed.items()} == {"0": 1}


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_wide_nets_use_up_the_budget(chain, seed):
    """Within 1.5 %, by those allocations that choose widths first and structures then."""
    rng = random.Random(seed)
    problem = chain([3, *rng.choices([48, 64, 96], k=6), 10], rng.choices(range(50, 500), k=7), keep=0.35)
    for name in ("uniform", "error-curves"):
        assert 0.985 * problem.budget <= _select(name, problem).macs <= problem.budget

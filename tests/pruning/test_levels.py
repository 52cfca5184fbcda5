"""Levels: met, recorded and composed within floors, or refused; warnings of thin layers."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from levelled import SIZE, prune
from torch import nn
from torch.testing import assert_close

from oba.config import Floors
from oba.errors import BudgetError, ScoreError
from oba.importance.masks import masked, removal_masks
from oba.pruning.cost import CostModel, measure
from oba.pruning.dependencies import find_groups
from oba.pruning.levels import channel_warnings
from oba.pruning.plan import Kept, Plan, restrict
from oba.pruning.problem import lowest_keep
from oba.pruning.replay import apply_plan


def test_a_level_is_met_and_recorded(case, images):
    dense, dense_cost = copy.deepcopy(case.model), measure(case.model, SIZE)
    floors = Floors(max_removed=0.8)
    keep = (1 + lowest_keep(case.groups, CostModel.of(dense, SIZE), floors)) / 2
    plan, records = prune(case, keep, rounds=3, max_removed=0.8)
    cost = measure(case.model, SIZE)
    assert len(records) == 3
    assert [r.keep for r in records] == pytest.approx([1 - (1 - keep) * i / 3 for i in (1, 2, 3)])
    assert all(r.macs_kept <= r.keep + 1e-9 for r in records)
    assert records[-1].macs_kept == pytest.approx(cost.macs / dense_cost.macs, abs=1e-12)
    assert cost.parameters < dense_cost.parameters
    left, origin = restrict(case.groups, plan)
    assert sum(r.removed for r in records) == sum(len(g) for g in case.groups) - sum(len(g) for g in left)
    removed = {g.name: sorted({*range(len(g))} - {*origin[g.name]}) for g in case.groups}
    with masked(dense, case.groups, removal_masks(case.groups, removed)):
        assert_close(case.model(images), dense(images), rtol=1e-10, atol=1e-12)


def test_levels_compose(zoo, images):
    """The second level starts from the first one's net and plan; the plan replays from the dense net."""
    case = zoo("residual-streams")
    dense = copy.deepcopy(case.model)
    plan, first = prune(case, 0.7, rounds=2)
    plan, records = prune(case, 0.4, plan=plan, rounds=2)
    assert records[0].keep == pytest.approx((first[-1].macs_kept + 0.4) / 2)
    assert records[-1].macs_kept <= 0.4
    apply_plan(dense, plan)
    assert torch.equal(dense(images), case.model(images))


def test_floors_hold_across_levels(zoo):
    case = zoo("residual-streams")
    plan = Plan()
    for keep in (0.8, 0.6, 0.45):
        plan, _ = prune(case, keep, plan=plan, rounds=2, max_removed=0.5)
    left, _ = restrict(case.groups, plan)
    for dense, now in zip(case.groups, left, strict=True):
        assert len(now) * 2 >= len(dense)


def test_an_unreachable_level_is_refused_before_scoring(zoo):
    case = zoo("batch-norm")
    before = measure(case.model, SIZE)

    def score(model, groups):
        raise AssertionError("scored")

    with pytest.raises(BudgetError, match=r"keep=0.01 cannot be reached"):
        prune(case, 0.01, score=score)
    assert measure(case.model, SIZE) == before


def test_scores_that_are_not_finite_are_refused(zoo):
    case = zoo("batch-norm")
    with torch.no_grad():
        case.model[4].weight[2] = torch.nan
    with pytest.raises(ScoreError, match=r"group '4': 1 of 8"):
        prune(case, 0.5)


def test_warnings_name_thin_layers(zoo):
    groups = zoo("grouped").groups
    assert channel_warnings(groups, Plan()) == []
    plan = Plan({
        ("0", "out"): Kept(12, (0, 1, 2)),
        ("1", "feature"): Kept(12, (0, 1, 2)),
        ("3", "in"): Kept(12, (0, 1, 2)),
        ("3", "out"): Kept(8, (0, 1)),
        ("4", "feature"): Kept(8, (0, 1)),
        ("6", "in"): Kept(8, (0, 1)),
    })
    assert channel_warnings(groups, plan) == ["layer '0' keeps 3 of 12 channels"]


def test_warnings_below_a_fraction():
    from oba.structures import Slice, StructureGroup

    group = StructureGroup("a", (Slice("a", "out", tuple((i,) for i in range(40))),))
    cut = [Plan({("a", "out"): Kept(40, tuple(range(n)))}) for n in (40, 4, 3)]
    assert [channel_warnings([group], p) for p in cut] == [[], [], ["layer 'a' keeps 3 of 40 channels"]]
    assert channel_warnings([group], cut[1], below=0.2) == ["layer 'a' keeps 4 of 40 channels"]
    single = Plan({("a", "out"): Kept(4, (0, 1))})
    pairs = StructureGroup("a", (Slice("a", "out", ((0, 1), (2, 3))),))
    assert channel_warnings([pairs], single) == ["layer 'a' keeps 2 of 4 channels"]
    assert channel_warnings([replace(pairs, kind="head")], single) == [], "one of two heads is no thin layer"


class _Block(nn.Module):
    def __init__(self, width, inner, *, depthwise, residual):
        super().__init__()
        middle = (
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner) if depthwise else nn.Conv2d(inner, inner, 3, padding=1)
        )
        self.body = nn.Sequential(
            nn.Conv2d(width, inner, 1), nn.BatchNorm2d(inner), nn.SiLU(), middle, nn.SiLU(), nn.Conv2d(inner, width, 1)
        )
        self.residual = residual

    def forward(self, x):
        return F.silu(self.body(x)) + (x if self.residual else 0)


@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_nets_at_random_budgets(data, images):
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    width = data.draw(st.integers(2, 6))
    blocks = [
        _Block(
            width, data.draw(st.integers(2, 9)), depthwise=data.draw(st.booleans()), residual=data.draw(st.booleans())
        )
        for _ in range(data.draw(st.integers(1, 3)))
    ]
    head = [nn.MaxPool2d(4), nn.Flatten(), nn.Linear(4 * width, 3)]
    model = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), *blocks, *head).double().eval()
    groups = find_groups(model, SIZE, residual_streams=data.draw(st.booleans()))
    floors = Floors(
        max_removed=data.draw(st.floats(0.3, 0.95)),
        round_to=data.draw(st.sampled_from([1, 2])),
    )
    dense, cost = copy.deepcopy(model), CostModel.of(model, SIZE)
    lowest = lowest_keep(groups, cost, floors)
    plan, keep = Plan(), 1.0
    for share in data.draw(st.lists(st.floats(0.1, 1), min_size=1, max_size=2)):
        keep -= (keep - lowest) * share
        if keep * cost.macs < CostModel.of(model, SIZE).macs:
            rounds, allocation = data.draw(st.integers(1, 3)), data.draw(st.sampled_from(["global", "uniform"]))
            case = SimpleNamespace(model=model, groups=groups)
            plan, _ = prune(case, keep, plan, allocation=allocation, rounds=rounds, **floors.model_dump())
        assert measure(model, SIZE).macs <= keep * cost.macs + 1e-6
    left, origin = restrict(groups, Plan.from_json(plan.to_json()))
    for g, now in zip(groups, left, strict=True):
        gone = len(g) - len(now)
        assert gone <= floors.max_removed * len(g) + 1e-6
        assert not gone or len(now) % floors.round_to == 0 or len(g) < floors.round_to
    removed = {g.name: sorted({*range(len(g))} - {*origin[g.name]}) for g in groups}
    with masked(dense, groups, removal_masks(groups, removed)):
        assert_close(model(images), dense(images), rtol=1e-9, atol=1e-11)

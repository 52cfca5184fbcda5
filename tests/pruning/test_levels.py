"""Levels: rounds, composed plans, exact records, warnings."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from oba.config import Floors
from oba.errors import BudgetError, ScoreError
from oba.importance.masks import masked, removal_masks
from oba.importance.scores import StructureScores
from oba.options import Options
from oba.pruning.cost import CostModel, measure
from oba.pruning.cut import Update, make_update
from oba.pruning.dependencies import find_groups
from oba.pruning.levels import Steps, channel_warnings, prune_to_level
from oba.pruning.plan import Kept, Plan, restrict
from oba.pruning.problem import Allocation, lowest_keep, make_allocation
from oba.pruning.replay import apply_plan

SIZE = (3, 8, 8)


def _weights(model, groups):
    """Score by the magnitude of what a structure's producer holds."""
    rows = {g.name: g.on_axis("out")[0] for g in groups}
    return StructureScores({
        n: torch.stack([model.get_submodule(s.layer).weight[list(r)].abs().sum() for r in s.indices])
        for n, s in rows.items()
    })


def _batches():
    """Go through three batches of images, float64."""
    draw = torch.Generator().manual_seed(5)
    for size in (4, 3, 2):
        yield torch.randn(size, *SIZE, generator=draw, dtype=torch.float64), torch.arange(size) % 3


def _prune(case, keep, plan=None, *, score=_weights, allocation="global", update=None, rounds=4, widths=None, **floors):
    made = make_allocation(allocation) if isinstance(allocation, str) else allocation
    return prune_to_level(
        case.model,
        case.groups,
        plan or Plan(),
        score=score,
        steps=Steps(made, update or make_update("none"), rounds, Floors(**floors)),
        images=_batches,
        keep=keep,
        input_size=SIZE,
        widths=widths,
    )


def test_a_level_is_met_and_recorded(case, images):
    dense, dense_cost = copy.deepcopy(case.model), measure(case.model, SIZE)
    floors = Floors(max_removed=0.8)
    keep = (1 + lowest_keep(case.groups, CostModel.of(dense, SIZE), floors)) / 2
    plan, records = _prune(case, keep, rounds=3, max_removed=0.8)
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
    plan, first = _prune(case, 0.7, rounds=2)
    plan, records = _prune(case, 0.4, plan=plan, rounds=2)
    assert records[0].keep == pytest.approx((first[-1].macs_kept + 0.4) / 2)
    assert records[-1].macs_kept <= 0.4
    apply_plan(dense, plan)
    assert torch.equal(dense(images), case.model(images))


def test_every_round_scores_what_is_left(zoo):
    case = zoo("batch-norm")
    seen = []

    def score(model, groups):
        seen.append({g.name: (len(g), model.get_submodule(g.name).out_channels) for g in groups})
        return _weights(model, groups)

    _prune(case, 0.5, score=score, rounds=4)
    assert len(seen) == 4
    assert all(structures == channels for groups in seen for structures, channels in groups.values())
    assert seen[0] == {"0": (6, 6), "4": (8, 8)}
    assert sum(n for n, _ in seen[3].values()) < 14


def test_scores_in_nats_say_what_the_loss_will_do(zoo):
    """By hand from the structures that went; other scores say nothing."""
    case = zoo("batch-norm")
    assert [r.predicted for r in _prune(zoo("batch-norm"), 0.5, rounds=2)[1]] == [None, None]
    draw = torch.Generator().manual_seed(0)
    alone = {g.name: torch.randn(len(g), generator=draw).double() for g in case.groups}
    matrix = torch.randn(14, 14, generator=draw).double()
    matrix += matrix.T.clone()
    scores = StructureScores(alone, matrix, in_nats=True)
    plan, (record,) = _prune(case, 0.5, score=lambda net, groups: scores, allocation="per-mac", rounds=1)
    _, origin = restrict(case.groups, plan)
    starts = {"0": 0, "4": 6}
    gone = [(g.name, i) for g in case.groups for i in range(len(g)) if i not in origin[g.name]]
    expected = sum(alone[n][i].item() for n, i in gone)
    expected += sum(matrix[starts[n] + i, starts[m] + j].item() for (n, i), (m, j) in itertools.combinations(gone, 2))
    assert len(gone) == record.removed > 2
    assert record.predicted == pytest.approx(expected, rel=1e-12)


def test_losses_are_those_of_the_calibration_images_before_and_after(zoo):
    case = zoo("batch-norm")

    def mean_loss(model):
        losses = [F.cross_entropy(model(x), y, reduction="none") for x, y in _batches()]
        return torch.cat(losses).mean().item()

    dense = mean_loss(case.model)
    _, records = _prune(case, 0.5, rounds=3)
    assert records[0].loss_before == pytest.approx(dense, rel=1e-6)
    assert [r.loss_before for r in records[1:]] == [r.loss_after for r in records[:-1]]
    assert records[-1].loss_after == pytest.approx(mean_loss(case.model), rel=1e-6)
    assert len({r.loss_after for r in records} | {dense}) == 4


class Spy(Update[Options]):
    """Remembers what it was given, and makes the net useless."""

    def __init__(self) -> None:
        super().__init__(Options())
        self.cuts = []

    def adjust(self, cut, images):
        self.cuts.append((copy.deepcopy(cut.before), copy.deepcopy(cut.after), cut, list(images())))
        with torch.no_grad():
            cut.after[0].bias.fill_(math.nan)


def test_an_update_sees_the_net_before_and_after_every_cut(zoo, images):
    """What it changes is what the next round starts from, and a loss that is not finite is none."""
    case, spy = zoo("batch-norm"), Spy()
    dense = copy.deepcopy(case.model)

    def score(model, groups):
        return StructureScores({g.name: torch.arange(len(g)).double() for g in groups})

    plan, records = _prune(case, 0.5, score=score, update=spy, rounds=2)
    assert len(spy.cuts) == 2
    before, after, cut, given = spy.cuts[0]
    assert torch.equal(before(images), dense(images))
    with masked(dense, case.groups, removal_masks(case.groups, cut.removed)):
        assert_close(after(images), dense(images), rtol=1e-10, atol=1e-12)
    apply_plan(before, cut.plan)
    assert torch.equal(before(images), after(images))
    assert [len(x) for x, _ in given] == [4, 3, 2]
    assert spy.cuts[1][0][0].bias.isnan().all()
    assert {g.name: len(g) for g in spy.cuts[1][2].groups} == records[0].kept
    assert [r.loss_after for r in records] == [None, None]
    assert records[0].loss_before is not None
    assert records[1].loss_before is None
    assert records[1].kept == {g.name: len(g) for g in restrict(case.groups, plan)[0]}


def test_an_allocation_is_told_the_way_to_the_level(zoo):
    case, seen, widths = zoo("batch-norm"), [], {"0": 3, "4": 5}

    class Spying(Allocation[Options]):
        def select(self, problem):
            seen.append((problem, problem.cost.macs))
            return make_allocation("global").select(problem)

    _, records = _prune(case, 0.5, allocation=Spying(Options()), rounds=2, widths=widths)
    (first, before), (second, between) = seen
    assert [p.progress for p in (first, second)] == [0.5, 1]
    assert [p.keep for p in (first, second)] == [0.75, 0.5]
    assert first.dense_counts == second.dense_counts == {"0": 6, "4": 8}
    assert {g.name: len(g) for g in second.groups} == records[0].kept
    assert first.widths == second.widths == widths
    assert before == first.dense_macs == second.dense_macs
    assert between == round(records[0].macs_kept * before)


def test_floors_hold_across_levels(zoo):
    case = zoo("residual-streams")
    plan = Plan()
    for keep in (0.8, 0.6, 0.45):
        plan, _ = _prune(case, keep, plan=plan, rounds=2, max_removed=0.5)
    left, _ = restrict(case.groups, plan)
    for dense, now in zip(case.groups, left, strict=True):
        assert len(now) * 2 >= len(dense)


def test_an_unreachable_level_is_refused_before_scoring(zoo):
    case = zoo("batch-norm")
    before = measure(case.model, SIZE)

    def score(model, groups):
        raise AssertionError("scored")

    with pytest.raises(BudgetError, match=r"keep=0.01 cannot be reached"):
        _prune(case, 0.01, score=score)
    assert measure(case.model, SIZE) == before


def test_scores_that_are_not_finite_are_refused(zoo):
    case = zoo("batch-norm")
    with torch.no_grad():
        case.model[4].weight[2] = torch.nan
    with pytest.raises(ScoreError, match=r"group '4': 1 of 8"):
        _prune(case, 0.5)


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
            plan, _ = _prune(case, keep, plan, allocation=allocation, rounds=rounds, **floors.model_dump())
        assert measure(model, SIZE).macs <= keep * cost.macs + 1e-6
    left, origin = restrict(groups, Plan.from_json(plan.to_json()))
    for g, now in zip(groups, left, strict=True):
        gone = len(g) - len(now)
        assert gone <= floors.max_removed * len(g) + 1e-6
        assert not gone or len(now) % floors.round_to == 0 or len(g) < floors.round_to
    removed = {g.name: sorted({*range(len(g))} - {*origin[g.name]}) for g in groups}
    with masked(dense, groups, removal_masks(groups, removed)):
        assert_close(model(images), dense(images), rtol=1e-9, atol=1e-11)

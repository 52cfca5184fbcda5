"""Rounds of a level: what scores, updates and allocations are given, and what is recorded of the loss."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from levelled import batches, magnitudes, prune
from torch.testing import assert_close

from oba.importance.masks import masked, removal_masks
from oba.importance.scores import StructureScores
from oba.options import Options
from oba.pruning.cut import Update
from oba.pruning.plan import restrict
from oba.pruning.problem import Allocation, make_allocation
from oba.pruning.replay import apply_plan


def test_every_round_scores_what_is_left(zoo):
    case = zoo("batch-norm")
    seen = []

    def score(model, groups):
        seen.append({g.name: (len(g), model.get_submodule(g.name).out_channels) for g in groups})
        return magnitudes(model, groups)

    prune(case, 0.5, score=score, rounds=4)
    assert len(seen) == 4
    assert all(structures == channels for groups in seen for structures, channels in groups.values())
    assert seen[0] == {"0": (6, 6), "4": (8, 8)}
    assert sum(n for n, _ in seen[3].values()) < 14


def test_scores_in_nats_say_what_the_loss_will_do(zoo):
    """By hand from the structures that went; other scores say nothing."""
    case = zoo("batch-norm")
    assert [r.predicted for r in prune(zoo("batch-norm"), 0.5, rounds=2)[1]] == [None, None]
    draw = torch.Generator().manual_seed(0)
    alone = {g.name: torch.randn(len(g), generator=draw).double() for g in case.groups}
    matrix = torch.randn(14, 14, generator=draw).double()
    matrix += matrix.T.clone()
    scores = StructureScores(alone, matrix, in_nats=True)
    plan, (record,) = prune(case, 0.5, score=lambda net, groups: scores, allocation="per-mac", rounds=1)
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
        losses = [F.cross_entropy(model(x), y, reduction="none") for x, y in batches()]
        return torch.cat(losses).mean().item()

    dense = mean_loss(case.model)
    _, records = prune(case, 0.5, rounds=3)
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

    plan, records = prune(case, 0.5, score=score, update=spy, rounds=2)
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

    _, records = prune(case, 0.5, allocation=Spying(Options()), rounds=2, widths=widths)
    (first, before), (second, between) = seen
    assert [p.progress for p in (first, second)] == [0.5, 1]
    assert [p.keep for p in (first, second)] == [0.75, 0.5]
    assert first.dense_counts == second.dense_counts == {"0": 6, "4": 8}
    assert {g.name: len(g) for g in second.groups} == records[0].kept
    assert first.widths == second.widths == widths
    assert before == first.dense_macs == second.dense_macs
    assert between == round(records[0].macs_kept * before)

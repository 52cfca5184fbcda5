"""Widths that are given: met exactly, approached evenly, refused where they cannot be; those of another method."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from oba.config import Floors
from oba.dag import STAGES
from oba.errors import BudgetError, ConfigError
from oba.importance.scores import StructureScores
from oba.layout import Coordinates, Layout
from oba.pruning.cost import CostModel
from oba.pruning.cut import make_update
from oba.pruning.levels import Steps, prune_to_level
from oba.pruning.plan import Plan, kept_counts
from oba.pruning.problem import make_allocation
from oba.study import dump_study, parse_study

SIZE = (3, 8, 8)


def _given(**options):
    return make_allocation("given", **options)


def _removed(problem, **options):
    return _given(**options).select(problem).removed


def test_the_cheapest_go_until_the_counts_are_left(chain):
    problem = chain([1, 4, 4, 1], [10, 1, 10], [[4, 1, 3, 9], [2, 8, 7, 6]], keep=0.59)
    assert _removed(problem, counts={"0": 2, "1": 3}) == {"0": (1, 2), "1": (0,)}


def test_groups_that_are_not_named_stay_whole(chain):
    problem = chain([1, 4, 4, 1], [10, 0, 10], keep=0.75)
    assert _removed(problem, counts={"1": 2}) == {"1": (0, 1)}


def test_widths_of_another_method_need_not_be_close_to_the_level(chain):
    problem = chain([1, 4, 4, 1], [10, 0, 10], keep=0.75, widths={"0": 2, "1": 2})
    assert _removed(problem, method="other") == {"0": (0, 1), "1": (0, 1)}


@pytest.mark.parametrize("options", [{}, {"counts": {"0": 1}, "method": "other"}])
def test_exactly_one_source(options):
    with pytest.raises(ConfigError) as info:
        _given(**options)
    assert str(info.value) == (
        "allocation 'given': allowed: exactly one of counts (structures kept, by group) and method (another method)"
    )


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ({"00": 4}, ConfigError, "allocation 'given': unknown group '00' (did you mean '0'?); allowed: 0, 1"),
        ({"0": 9}, BudgetError, "group '0' cannot keep 9 of its 8 structures; allowed: 8, or multiples of 2 from 4 on"),
        ({"0": 2}, BudgetError, "group '0' cannot keep 2 of its 8 structures; allowed: 8, or multiples of 2 from 4 on"),
        ({"0": 5}, BudgetError, "group '0' cannot keep 5 of its 8 structures; allowed: 8, or multiples of 2 from 4 on"),
        ({"0": 6}, BudgetError, "the widths keep 0.8750 of the dense MACs, but keep=0.75 was asked for; allowed: at"),
        ({"0": 4, "1": 6}, BudgetError, "the widths keep 0.6250 of the dense MACs, but keep=0.75 was asked for; allow"),
    ],
)
def test_widths_that_cannot_be_are_refused(chain, counts, error, message):
    problem = chain([1, 8, 8, 1], [10, 0, 10], keep=0.75, floors={"min_channels": 3, "round_to": 2})
    with pytest.raises(error) as info:
        _given(counts=counts).select(problem)
    assert message in str(info.value)
    assert len(str(info.value).splitlines()) == 1


def test_only_the_end_of_a_level_must_be_close_to_it(chain):
    problem = chain([1, 8, 8, 1], [10, 0, 10], keep=0.75)
    with pytest.raises(BudgetError):
        _given(counts={"0": 2}).select(replace(problem, keep=0.7))
    assert len(_removed(replace(problem, progress=0.5), counts={"0": 2})["0"]) == 4


def test_a_round_on_the_way_goes_as_far_in_every_group(chain):
    """Of 8 and 16 that go, half; blocks hold on the way, too."""
    problem = chain([1, 12, 24, 1], [10, 0, 10], keep=2 / 3, progress=0.5)
    counts = {"0": 4, "1": 8}
    assert {n: len(r) for n, r in _removed(problem, counts=counts).items()} == {"0": 4, "1": 8}
    blocks = replace(problem, floors=Floors(round_to=4), keep=0.6)
    assert {n: len(r) for n, r in _removed(blocks, counts=counts).items()} == {"0": 4, "1": 12}


def _levels(case, allocation, keeps, widths=None, *, iterative):
    """Prune the net to every level as a schedule does; return what each keeps and the rounds."""
    steps = Steps(allocation, make_update("none"), 3, Floors(max_removed=0.9))
    rng = torch.Generator().manual_seed(len(keeps))
    batch = torch.randn(4, *SIZE, dtype=torch.float64), torch.zeros(4, dtype=torch.long)
    kept, rounds, model, plan = [], [], copy.deepcopy(case.model), Plan()
    for i, keep in enumerate(keeps):
        if not iterative:
            model, plan = copy.deepcopy(case.model), Plan()
        plan, records = prune_to_level(
            model,
            case.groups,
            plan,
            score=lambda net, groups: StructureScores({g.name: torch.rand(len(g), generator=rng) for g in groups}),
            steps=steps,
            images=lambda: iter([batch]),
            keep=keep,
            input_size=SIZE,
            widths=widths[i] if widths else None,
        )
        kept.append({name: count for name, (count, _) in kept_counts(case.groups, plan).items()})
        rounds.append(records)
    return kept, rounds


@pytest.mark.parametrize("iterative", [True, False])
@pytest.mark.parametrize("name", ["residual-streams", "batch-norm", "halves"])
def test_a_method_copies_anothers_widths_at_every_level(zoo, name, iterative):
    case, keeps = zoo(name), [0.7, 0.4]
    theirs, _ = _levels(case, make_allocation("global"), keeps, iterative=iterative)
    ours, rounds = _levels(case, _given(method="other"), keeps, theirs, iterative=iterative)
    assert theirs[0] != theirs[1]
    assert ours == theirs
    assert all(record.macs_kept <= record.keep + 1e-9 for records in rounds for record in records)


def test_rounds_end_at_the_counts(zoo):
    case = zoo("batch-norm")
    cost = CostModel.of(case.model, SIZE)
    dense = cost.macs
    counts = {g.name: len(g) // 2 for g in case.groups}
    for group in case.groups:
        cost.remove(group, len(group) - counts[group.name])
    keep = cost.macs / dense
    (kept,), (rounds,) = _levels(case, _given(counts=counts), [keep], iterative=True)
    assert kept == counts
    widths = [list(record.kept.values()) for record in rounds]
    assert widths[0] > widths[1] > widths[2] == list(counts.values())


def _study(*methods, **rest):
    values = {
        "experiment": "tiny",
        "data": {"name": "digits"},
        "models": ["resnet8"],
        "seeds": [0],
        "keep": [0.6, 0.3],
        "dense": {"epochs": 1},
        "finetune": {"epochs": 1},
    }
    return parse_study(values | {"methods": list(methods)} | rest, "study.yaml")


def _copying(name, other):
    return {"name": name, "criterion": "random", "allocation": {"name": "given", "method": other}}


@pytest.mark.parametrize(
    ("methods", "line"),
    [
        (
            [_copying("a", "magnitud"), "magnitude"],
            "methods.a.allocation.method: unknown method 'magnitud' (did you mean 'magnitude'?); allowed: magnitude",
        ),
        (
            [_copying("a", "a")],
            "methods.a.allocation.method: a -> a is a circle; allowed: a method that copies none of these",
        ),
        (
            ["magnitude", _copying("x", "a"), _copying("a", "b"), _copying("b", "a")],
            "methods.a.allocation.method: a -> b -> a is a circle; allowed: a method that copies none of these",
        ),
        (
            [{"criterion": "random", "allocation": "given"}],
            "methods.random: allocation 'given': allowed: exactly one of counts (structures kept, by group) and method "
            "(another method)",
        ),
    ],
)
def test_a_study_refuses_widths_of_no_method(methods, line):
    with pytest.raises(ConfigError) as info:
        _study(*methods)
    assert str(info.value) == f"study.yaml: {line}"


def test_copies_of_copies_are_allowed():
    study = _study(_copying("a", "b"), _copying("b", "magnitude"), "magnitude")
    assert parse_study(dump_study(study), "study.yaml") == study


@pytest.mark.parametrize("schedule", ["iterative", "oneshot"])
@pytest.mark.parametrize("keep", ["0.60", "0.30"])
def test_the_dag_reads_the_other_methods_plan_of_the_same_level(schedule, keep):
    study, layout = _study("magnitude", _copying("a", "magnitude"), schedules=[schedule]), Layout("tiny")
    at = Coordinates("resnet8", 0, "a", schedule, keep)
    reads = STAGES["prune"].reads(study, layout, at)
    other = STAGES["prune"].writes(layout, replace(at, method="magnitude"))
    assert reads["widths"] == [other[1]]
    assert other[1].name == "plan.json"
    assert "widths" not in STAGES["prune"].reads(study, layout, replace(at, method="magnitude"))

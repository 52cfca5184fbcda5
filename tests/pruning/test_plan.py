"""Plans compose, carry groups over, and survive JSON; what does not fit is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oba.errors import FileError
from oba.pruning.plan import Kept, Plan, kept_counts, restrict
from oba.structures import Slice, StructureGroup


def _group(name, *slices):
    return StructureGroup(name, tuple(Slice(layer, axis, rows) for layer, axis, rows in slices))


GROUP = _group("a", ("a", "out", ((0,), (1,), (2,), (3,))), ("b", "in", ((4, 5), (6, 7), (8, 9), (10, 11))))
PLAN = Plan({("a", "out"): Kept(4, (0, 2, 3)), ("b", "in"): Kept(14, (0, 1, 2, 4, 5, 8, 9, 10, 11, 13))})


def test_without():
    assert Kept.without(5, [3, 0]) == Kept(5, (1, 2, 4))


def test_restrict_renumbers_and_maps_back():
    (left,), origin = restrict([GROUP], PLAN)
    assert left == _group("a", ("a", "out", ((0,), (1,), (2,))), ("b", "in", ((3, 4), (5, 6), (7, 8))))
    assert origin == {"a": (0, 2, 3)}


def test_restrict_under_the_identity_changes_nothing():
    assert restrict([GROUP], Plan()) == ([GROUP], {"a": (0, 1, 2, 3)})


def test_groups_of_which_nothing_is_left_go():
    gone = Plan({("a", "out"): Kept(5, (4,)), ("b", "in"): Kept(14, (0, 12))})
    assert restrict([GROUP], gone) == ([], {})
    assert kept_counts([GROUP], gone) == {"a": (0, 4)}


def test_counts():
    assert kept_counts([GROUP], PLAN) == {"a": (3, 4)}


def test_half_a_structure_is_refused():
    with pytest.raises(FileError, match=r"structure 1 of 'a' is kept in one layer and removed in another"):
        restrict([GROUP], Plan({("a", "out"): Kept(4, (0, 2, 3))}))


def test_composition_by_hand():
    later = Plan({("a", "out"): Kept(3, (0, 2)), ("c", "in"): Kept(2, (1,))})
    both = PLAN.then(later)
    assert both.axes["a", "out"] == Kept(4, (0, 3))
    assert both.axes["b", "in"] == PLAN.axes["b", "in"]
    assert both.axes["c", "in"] == Kept(2, (1,))


def test_plans_of_other_sizes_do_not_compose():
    with pytest.raises(ValueError, match=r"first leaves 3 positions, the second expects 4"):
        PLAN.then(Plan({("a", "out"): Kept(4, (1,))}))


def _subset(size):
    return st.sets(st.integers(0, size - 1), min_size=1).map(lambda s: tuple(sorted(s)))


@given(data=st.data())
def test_composition_is_associative_and_has_an_identity(data):
    plans, size = [], data.draw(st.integers(1, 12))
    for _ in range(3):
        kept = data.draw(_subset(size))
        plans.append(Plan({("x", "out"): Kept(size, kept)}))
        size = len(kept)
    a, b, c = plans
    assert a.then(b).then(c) == a.then(b.then(c))
    assert Plan().then(a) == a == a.then(Plan())


@given(data=st.data())
def test_json_round_trip(data):
    sizes = data.draw(
        st.dictionaries(st.tuples(st.text(max_size=4), st.sampled_from(["out", "in"])), st.integers(1, 9))
    )
    plan = Plan({key: Kept(size, data.draw(_subset(size))) for key, size in sizes.items()})
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    "bad",
    [None, [], {}, {"axes": [{"layer": "a"}]}, {"axes": [{"layer": "a", "axis": "out", "size": "x", "kept": []}]}],
)
def test_what_is_no_plan_is_refused(bad):
    with pytest.raises(FileError, match=r"not a plan"):
        Plan.from_json(bad)


@pytest.mark.parametrize("kept", [[], [1, 0], [0, 0], [-1, 0], [0, 4]])
def test_impossible_positions_are_refused(kept):
    with pytest.raises(FileError, match=r"plan of layer 'a', axis 'out': .* increasing, from 0 to 3"):
        Plan.from_json({"axes": [{"layer": "a", "axis": "out", "size": 4, "kept": kept}]})

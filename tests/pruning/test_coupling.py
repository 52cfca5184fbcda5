"""Channels that meet are one structure; structures of one shape are one group."""

from __future__ import annotations

from oba.pruning.coupling import Position, join, numbered
from oba.structures import Slice, StructureGroup

ORDER = {"a": 0, "b": 1, "c": 2}


def _plain(layer, axis, size, offset=0):
    return {(layer, axis): {Position(i + offset, i) for i in range(size)}}


def test_channels_apart():
    (group,) = join(_plain("c", "in", 3, 5) | _plain("a", "out", 3), range(3), ORDER)
    rows = ((0,), (1,), (2,))
    assert group == StructureGroup("a", (Slice("a", "out", rows), Slice("c", "in", ((5,), (6,), (7,)))))


def test_channels_that_meet():
    """Channels i and i + 2 of ``a`` read the same channel of ``b``."""
    positions = _plain("a", "out", 4) | {("b", "in"): {Position(i % 2, i) for i in range(4)}}
    (group,) = join(positions, range(4), ORDER)
    assert [s.indices for s in group.slices] == [((0, 2), (1, 3)), ((0,), (1,))]


def test_meeting_is_transitive():
    positions = _plain("a", "out", 5) | {("b", "in"): {Position(i // 2, i) for i in range(4)} | {Position(1, 1)}}
    groups = join(positions, range(5), ORDER)
    assert groups == [], "0, 1, 2, 3 are one structure and 4 another kind: neither has a rival"


def test_kinds_make_groups():
    positions = _plain("a", "out", 4) | {("b", "in"): {Position(0, 0), Position(1, 1)}}
    positions |= {("c", "in"): {Position(0, 2), Position(1, 3)}}
    first, second = numbered(join(positions, range(4), ORDER))
    assert (first.name, second.name) == ("a", "a#2")
    assert [s.layer for s in first.slices] == ["a", "b"]
    assert [s.indices for s in second.slices] == [((2,), (3,)), ((0,), (1,))]


def test_order_of_slices_is_the_order_of_the_net():
    positions = _plain("c", "in", 2) | _plain("b", "in", 2) | _plain("b", "out", 2) | _plain("a", "out", 2)
    (group,) = join(positions, range(2), ORDER)
    assert [(s.layer, s.axis) for s in group.slices] == [("a", "out"), ("b", "out"), ("b", "in"), ("c", "in")]

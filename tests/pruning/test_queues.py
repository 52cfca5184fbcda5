"""How one group shrinks: floors in structures, blocks, and the key that ranks them."""

from __future__ import annotations

import math

import pytest
from chains import chain, posed

from oba.config import Floors
from oba.pruning.queues import GroupFloor, Queue, neighbours


@pytest.mark.parametrize(
    ("sizes", "rows", "floors", "lowest", "step"),
    [
        (10, 1, {"max_removed": 0.7}, 3, 1),
        (10, 1, {"max_removed": 0.95}, 1, 1),
        (10, 1, {"max_removed": 0.7, "min_channels": 4}, 4, 1),
        (10, 1, {"min_channels": 20}, 10, 1),
        (20, 1, {"max_removed": 0.7, "round_to": 8}, 8, 8),
        (6, 1, {"round_to": 8}, 1, 1),
        (24, 4, {"min_channels": 5}, 2, 1),
        (24, 4, {"round_to": 8}, 2, 2),
        (24, 4, {"round_to": 6}, 3, 3),
    ],
)
def test_floors_speak_of_channels_and_count_from_the_dense_net(sizes, rows, floors, lowest, step):
    (group,), _ = chain([1, sizes, 1], [1, 1], rows=rows)
    assert GroupFloor.of(group, len(group), Floors(**floors)) == GroupFloor(lowest, step)


def test_a_block_leads_to_the_next_multiple_and_never_below_the_floor():
    assert [GroupFloor(1, 1).block(n) for n in (3, 2, 1)] == [1, 1, 0]
    assert [GroupFloor(8, 8).block(n) for n in (20, 16, 8)] == [4, 8, 0]


def _queue(scores, *, per_mac=False, widths=(1, 4, 1), units=(10, 5), **floors):
    groups, cost = chain(widths, units)
    problem = posed(groups, cost, scores, keep=0.5, **floors)
    return Queue(0, groups[0], problem.floor(groups[0]), problem.prices(), cost, per_mac=per_mac)


def test_a_queue_is_ranked_by_its_mean_price_or_by_price_per_mac():
    scores = {"0": [4.0, 2.0, -3.0, 9.0]}
    queue = _queue(scores, round_to=2)
    assert (queue.block, queue.saving, queue.key()) == ([2, 1], 30, (False, -0.5, 0))
    queue.pop()
    queue.reprice()
    queue.resize()
    assert queue.block == [], "two are left, and one is no multiple of two"
    assert _queue({"0": [4.0, 2.0, 3.0, 9.0]}, per_mac=True, round_to=2).key() == (True, 5 / 30, 0)
    assert _queue(scores, per_mac=True).key() == (False, -3.0, 0), "what is negative goes first, by its value"
    assert _queue({"0": [1.0] * 4}, per_mac=True, units=(0, 0)).key() == (True, math.inf, 0)


def test_a_quota_ends_a_queue_and_cuts_its_last_block():
    queue = _queue({"0": [4.0, 2.0, 1.0, 9.0]})
    queue.limit(2)
    gone = []
    while queue.block:
        gone += queue.pop()
        queue.reprice()
        queue.resize()
    assert gone == [2, 1]
    queue = _queue({"0": [4.0, 2.0, 1.0, 9.0]}, round_to=2)
    queue.limit(1)
    assert (queue.block, queue.saving) == ([2], 15)


def test_neighbours_share_a_layer():
    groups, cost = chain([1, 2, 2, 2, 1], [1, 1, 1, 1])
    problem = posed(groups, cost, {g.name: [1.0, 2.0] for g in groups}, keep=0.5)
    queues = [Queue(i, g, problem.floor(g), problem.prices(), cost, per_mac=False) for i, g in enumerate(groups)]
    assert [[q.order for q in found] for found in neighbours(queues)] == [[0, 1], [0, 1, 2], [1, 2]]

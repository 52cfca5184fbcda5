"""Equal fractions: how near, and what becomes of the MACs left over."""

from __future__ import annotations

import itertools
import math

from hypothesis import assume, given
from hypothesis import strategies as st

from oba.pruning.problem import make_allocation


def _kept(problem):
    removed = make_allocation("uniform").select(problem).removed
    return {g.name: len(g) - len(removed.get(g.name, ())) for g in problem.groups}


@given(data=st.data())
def test_fractions_differ_by_at_most_one_block_per_group(chain, data):
    """One fraction exists from which no group is further away than a block, but for those at their floors."""
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    units = data.draw(st.lists(st.integers(1, 50), min_size=len(sizes) + 1, max_size=len(sizes) + 1))
    floors = {"round_to": data.draw(st.sampled_from([1, 2, 4])), "max_removed": data.draw(st.floats(0.3, 0.95))}
    problem = chain([3, *sizes, 5], units, keep=data.draw(st.floats(0.05, 1)), floors=floors)
    lowest = problem.cost.copy()
    for group in problem.groups:
        lowest.remove(group, problem.choices(group)[-1])
    assume(lowest.macs <= problem.budget)
    below, above = [], []
    for group in problem.groups:
        kept, floor = _kept(problem)[group.name], problem.floor(group)
        above.append((kept + floor.step) / len(group))
        at_floor = kept == len(group) - problem.choices(group)[-1]
        below.append(-math.inf if at_floor else (kept - floor.step) / len(group))
    assert max(below) <= min(above) + 1e-12


def test_widths_of_a_small_resnet(chain):
    """Three groups apart, as inside the blocks of a resnet8: 16, 32 and 64 channels at 30 %."""
    problem = chain([16, 16, 32, 64, 10], [2048, 2048, 2048, 0], keep=0.3, apart=True)
    assert _kept(problem) == {"0": 5, "1": 9, "2": 19}


def test_macs_left_over_round_a_group_up_again(chain):
    """3 MACs per structure of the narrow group, 4 of the wide one; at 9/16, 2.25 and 4.5 of them stay."""
    assert _kept(chain([1, 4, 8, 1], [3, 1, 0], keep=24 / 44, apart=True)) == {"0": 2, "1": 4}
    assert _kept(chain([1, 4, 8, 1], [3, 1, 0], keep=25 / 44, apart=True)) == {"0": 3, "1": 4}


def test_who_goes_is_the_criterions_choice(chain):
    problem = chain([1, 4, 4, 1], [10, 1, 10], [[4, 1, 3, 9], [200, 800, 700, 600]], keep=0.5)
    assert make_allocation("uniform").select(problem).removed == {"0": (1, 2), "1": (0, 3)}


def test_scores_do_not_move_widths(chain):
    sizes, units = [3, 8, 12, 5], [4, 2, 9]
    scores = [[[1.0] * 8, [9.0] * 12], [[9.0] * 8, [1.0] * 12], [[0.0] * 8, [-1.0] * 12]]
    widths = [_kept(chain(sizes, units, s, keep=0.4)) for s in scores]
    assert all(a == b for a, b in itertools.pairwise(widths))

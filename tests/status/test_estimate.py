"""The time left, by what finished jobs took."""

from __future__ import annotations

import pytest

from oba.layout import Coordinates
from oba.status.cells import Cell, State
from oba.status.estimate import Durations, sweep_left, time_left


def durations(**known: list[float]) -> Durations:
    found = Durations()
    for kind, seconds in known.items():
        for one in seconds:
            found.add(kind, one)
    return found


def test_medians_divided_by_the_jobs_that_run():
    known = durations(prune=[10, 20, 600], finetune=[100])
    left = time_left(["prune", "prune", "finetune"], [("prune", 5, None), ("finetune", 40, 30)], known)
    assert left == (20 + 20 + 100 + 15 + 30) / 2


def test_a_running_training_tells_what_the_others_will_take():
    assert time_left(["dense"], [("dense", 10, 90)], Durations()) == 90 + 100


@pytest.mark.parametrize(
    ("waiting", "running"),
    [(["evaluate"], []), (["evaluate"], [("dense", 10, 90)]), ([], [("evaluate", 1, None)])],
    ids=["nothing runs", "no such job was finished", "what runs is unknown"],
)
def test_without_anything_to_go_by_it_is_unknown(waiting, running):
    assert time_left(waiting, running, Durations()) is None


def test_a_chain_is_never_faster_than_its_jobs_one_after_the_other():
    def cell(seed: int, keep: str, state: State) -> Cell:
        return Cell("prune", Coordinates("m", seed, "t", "iterative", keep), "", state, seconds=1.0, left=9.0)

    found = Durations()
    found.add(("prune", "m"), 10.0)
    running = [cell(seed, "0.90", State.RUNNING) for seed in range(8)]
    chain = [cell(0, f"0.{level}0", State.WAITING) for level in range(1, 5)]
    assert sweep_left([*running, *chain], found) == 40
    assert sweep_left([*running, chain[0]], found) == pytest.approx((8 * 9 + 10) / 8)

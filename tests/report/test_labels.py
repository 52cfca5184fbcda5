from __future__ import annotations

import pytest

from oba.report.labels import spread_labels


def test_labels_with_room_stay():
    assert spread_labels([1, 5, 3], 1, 0, 10) == [1, 5, 3]


def test_two_on_one_spot_part_evenly():
    assert spread_labels([5, 5], 1, 0, 10) == pytest.approx([4.5, 5.5])


def test_a_crowd_is_centred_on_its_mean():
    assert spread_labels([5.0, 5.1, 5.2, 9.0], 1, 0, 10) == pytest.approx([4.1, 5.1, 6.1, 9.0])


def test_blocks_that_come_to_touch_join():
    assert spread_labels([5, 5, 6], 1, 0, 10) == pytest.approx([13 / 3, 16 / 3, 19 / 3])


def test_order_and_range_hold():
    placed = spread_labels([9.9, 10, 0, 0.1], 1, 0, 10)
    assert placed == pytest.approx([9, 10, 0, 1])


def test_more_than_fit_start_at_the_bottom():
    assert spread_labels([1, 1, 1], 1, 0, 1) == pytest.approx([0, 1, 2])

from __future__ import annotations

import pytest

from oba.report.dodge import dodge


def test_points_apart_stay_where_they_are():
    points = [(1.0, 1.0), (1.0, 1.2), (1.2, 1.0)]
    assert dodge(points, 0.1, 0.3, 9.0) == [1.0, 1.0, 1.2]


def test_points_that_coincide_stand_side_by_side_around_their_middle():
    points = [(1.0, 1.0), (3.0, 1.0), (1.0, 1.0), (1.06, 1.03)]
    placed = dodge(points, 0.1, 0.3, 9.0)
    assert placed[1] == 3.0
    assert [placed[i] - 1.02 for i in (0, 2, 3)] == pytest.approx([-0.3, 0.0, 0.3])


def test_a_point_between_two_joins_them():
    placed = dodge([(0.0, 0.0), (0.16, 0.0), (0.08, 0.0)], 0.1, 0.1, 9.0)
    assert sorted(placed) == pytest.approx([-0.02, 0.08, 0.18])


def test_a_long_row_is_no_wider_than_it_may_be():
    placed = dodge([(5.0, 1.0)] * 11, 0.1, 0.3, 2.0)
    assert [placed[0], placed[5], placed[-1]] == pytest.approx([4.0, 5.0, 6.0])

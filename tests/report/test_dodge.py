from __future__ import annotations

import pytest

from oba.report.dodge import dodge


def test_points_apart_stay_where_they_are():
    points = [(1.0, 1.0), (1.0, 1.2), (1.2, 1.0)]
    assert dodge(points, 0.1, 0.3) == [1.0, 1.0, 1.2]


def test_points_that_coincide_stand_side_by_side_around_their_middle():
    points = [(1.0, 1.0), (3.0, 1.0), (1.0, 1.0), (1.06, 1.03)]
    placed = dodge(points, 0.1, 0.3)
    assert placed[1] == 3.0
    assert [placed[i] - 1.02 for i in (0, 2, 3)] == pytest.approx([-0.3, 0.0, 0.3])


def test_a_point_between_two_joins_them():
    placed = dodge([(0.0, 0.0), (0.16, 0.0), (0.08, 0.0)], 0.1, 0.1)
    assert sorted(placed) == pytest.approx([-0.02, 0.08, 0.18])

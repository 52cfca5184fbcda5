from __future__ import annotations

import matplotlib
import pytest
from matplotlib.colors import to_rgb

from oba.report.style import in_order, looks, styled


def test_every_method_has_its_own_colour_and_marker():
    names = ["oba", "oba-exact", "oba-diag", "oba-joint", "taylor", "magnitude", "fisher", "random"]
    look = looks(names)
    assert len({look[name].color for name in names}) == len(names)
    assert len({look[name].marker for name in names}) == len(names)


def test_many_methods_stay_distinct():
    names = [f"c{i}" for i in range(40)]
    assert len({looks(names)[name] for name in names}) == 40


def test_controls_are_grey_and_take_no_colour_away():
    assert looks(["dense", "a", "dense-longer"])["a"] == looks(["a"])["a"]
    for name in ("dense", "dense-longer"):
        red, green, blue = to_rgb(looks([])[name].color)
        assert red == green == blue


def test_the_users_settings_are_neither_used_nor_changed():
    with matplotlib.rc_context({"font.size": 31.0, "lines.linewidth": 9.0}):
        before = dict(matplotlib.rcParams)
        with styled():
            assert matplotlib.rcParams["font.size"] == 8.5
            assert matplotlib.rcParams["lines.linewidth"] == 1.6
        assert dict(matplotlib.rcParams) == before


def test_the_users_settings_come_back_after_an_error():
    before = dict(matplotlib.rcParams)
    with pytest.raises(KeyError), styled():
        raise KeyError
    assert dict(matplotlib.rcParams) == before


def test_coordinates_keep_their_order():
    assert in_order([{"keep": 0.7}, {"keep": 0.3}, {"keep": 0.7}], "keep") == [0.7, 0.3]

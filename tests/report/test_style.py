from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest
from matplotlib.colors import to_rgb

from oba.report.net import Net
from oba.report.style import in_order, line_styles, styled


def test_every_method_has_its_own_colour_and_marker():
    names = ["oba", "oba-exact", "oba-diag", "oba-joint", "taylor", "magnitude", "fisher", "random"]
    styles = line_styles(names)
    assert len({styles[name].color for name in names}) == len(names)
    assert len({styles[name].marker for name in names}) == len(names)


def test_many_methods_stay_distinct():
    names = [f"c{i}" for i in range(40)]
    assert len({line_styles(names)[name] for name in names}) == 40


def test_controls_are_grey_and_take_no_colour_away():
    assert line_styles(["dense", "a", "dense-longer"])["a"] == line_styles(["a"])["a"]
    for name in ("dense", "dense-longer"):
        red, green, blue = to_rgb(line_styles([])[name].color)
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
    nets = [Net("resnet8", 0, "oba", "oneshot", keep, "finetuned", Path()) for keep in (0.7, 0.3, 0.7)]
    assert in_order(nets, "keep") == [0.7, 0.3]

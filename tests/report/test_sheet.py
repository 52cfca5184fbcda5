from __future__ import annotations

import pytest
from PIL import Image

from oba.report.sheet import (
    draw_legend,
    heading_width,
    legend_rows,
    new_figure,
    place_axes,
    save_picture,
    text_width,
    write_at,
    write_title,
)
from oba.report.style import line_styles

pytestmark = pytest.mark.usefixtures("in_style")


def test_axes_lie_where_they_are_told_in_inches():
    figure = new_figure(8, 4)
    box = place_axes(figure, 1, 0.5, 4, 2).get_position()
    assert (box.x0 * 8, box.width * 8, box.height * 4) == pytest.approx((1, 4, 2))
    assert (1 - box.y1) * 4 == pytest.approx(0.5)


def test_text_lies_where_it_is_told(texts_drawn):
    figure = new_figure(4, 2)
    write_at(figure, 1, 0.5, "Hx")
    ((_, box),) = texts_drawn(figure)
    assert box.x0 == pytest.approx(1 * figure.dpi, abs=2)
    assert box.y1 == pytest.approx(1.5 * figure.dpi, abs=2)


def test_text_width_agrees_with_what_is_drawn(texts_drawn):
    figure = new_figure(6, 1)
    write_at(figure, 0.1, 0.2, "layer3.1.conv1 (+2)", fontsize=9)
    ((text, box),) = texts_drawn(figure)
    assert text_width(text, 9) == pytest.approx(box.width / figure.dpi, rel=0.05)


def test_legends_break_into_rows_that_fit(assert_legible):
    names = [f"method-{i}" for i in range(7)]
    rows = legend_rows(names, 4.0)
    assert [name for row in rows for name in row] == names
    assert len(rows) > 1
    figure = new_figure(4.3, 2)
    draw_legend(figure, 0.15, 0.1, rows, line_styles(names))
    assert_legible(figure)


def test_a_narrow_legend_has_one_name_per_row():
    assert legend_rows(["a", "b"], 0.1) == [["a"], ["b"]]


def test_pictures_are_large_enough_for_print_and_carry_no_date(tmp_path):
    save_picture(new_figure(2, 1), tmp_path / "picture.part")
    with Image.open(tmp_path / "picture.part") as image:
        assert image.format == "PNG"
        assert image.size == (400, 200)
        assert set(image.info) == {"dpi"}


def test_figures_are_not_kept_by_pyplot():
    from matplotlib import _pylab_helpers

    new_figure(2, 1)
    assert _pylab_helpers.Gcf.get_num_fig_managers() == 0


def test_a_sheet_as_wide_as_its_heading_cuts_nothing_off(assert_legible):
    title, subtitle = "a long name of an experiment: training", "a subtitle that is " + "long " * 20
    for texts in ((title * 2, "short"), (title, subtitle)):
        figure = new_figure(heading_width(*texts), 1)
        write_title(figure, 0.15, *texts)
        assert_legible(figure)

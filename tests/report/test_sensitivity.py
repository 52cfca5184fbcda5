from __future__ import annotations

import io

import pandas as pd
import pytest

from oba.report.sensitivity import COLUMNS, draw_sensitivity, most_sensitive
from oba.report.sheet import save_picture

pytestmark = pytest.mark.usefixtures("in_style")


def frame(groups: int, levels=(0.8, 0.6, 0.4, 0.2), scale: float = 8.0) -> pd.DataFrame:
    rows = []
    for index in range(groups):
        for level in levels:
            drop = scale * (1 - level) * (1 + index % 5) / 3 - 0.4
            macs = 1 - (1 - level) * 0.1 * (1 + index % 3)
            name = f"layer{index // 6}.{index % 6}.conv1"
            row = [name, "channel", name, 64, round(64 * level), level, 0.9, drop, 0.3, int(1e6 * macs), macs]
            rows.append(row)
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


@pytest.mark.parametrize(("groups", "levels"), [(1, (0.5,)), (6, (0.8, 0.6, 0.4, 0.2)), (40, (0.9, 0.5, 0.1))])
def test_the_picture_is_legible(assert_legible, groups, levels):
    figure = draw_sensitivity(frame(groups, levels), "digits, resnet20, seed 0, dense", "Points lost.\nRanked by oba.")
    assert_legible(figure)


def test_groups_stand_in_the_order_of_the_net_and_the_most_sensitive_are_bold(texts_drawn):
    found = frame(7)
    figure = draw_sensitivity(found, "title", "subtitle")
    names = [text for text in figure.texts if text.get_text().endswith("conv1")]
    assert [text.get_text() for text in names] == list(found.group.unique())
    bold = {text.get_text() for text in names if text.get_fontweight() == "bold"}
    assert bold == set(most_sensitive(found)[:3])
    shown = [text for text, _ in texts_drawn(figure)]
    assert "\N{MINUS SIGN}0.4" not in shown
    assert f"{found.drop_points.max():.1f}" in shown


def test_the_most_sensitive_group_loses_most_on_average():
    assert most_sensitive(frame(5))[0] == "layer0.4.conv1"


def test_what_chance_does_is_not_drawn_as_an_alarm():
    weak, strong = (draw_sensitivity(frame(5, scale=scale), "t", "s").axes[0].collections[0] for scale in (0.5, 30))
    assert weak.get_clim() == (0, 5)
    assert strong.get_clim()[1] > 20


def test_the_same_drawing_gives_the_same_bytes(tmp_path):
    pictures = []
    for name in "ab":
        save_picture(draw_sensitivity(frame(4), "t", "s"), tmp_path / name)
        pictures.append(io.BytesIO((tmp_path / name).read_bytes()).getvalue())
    assert pictures[0] == pictures[1]

from __future__ import annotations

import numpy as np
import pytest

from oba.report.collect import collect
from oba.report.summarize import summarize
from oba.report.tradeoff import draw_tradeoff

pytestmark = pytest.mark.usefixtures("in_style")


@pytest.fixture
def draw(make_sweep):
    def of(**options):
        summary = summarize(collect(make_sweep(**options).write()), "oba-joint")
        return draw_tradeoff(summary, "digits"), summary

    return of


def marked(axes, marker, filled):
    """The data of the lines with one marker, hollow or filled."""
    return [
        line.get_xydata()
        for line in axes.lines
        if line.get_marker() == marker
        and (line.get_markerfacecolor() != "none") is filled
        and len(line.get_xdata()) > 1
    ]


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [t.get_text() for t in figure.texts]


def test_lines_start_at_the_dense_net_and_follow_the_means(draw):
    figure, summary = draw()
    (axes,) = figure.axes
    chain = summary[summary.method == "oba-joint"]
    (line,) = marked(axes, "o", filled=True)
    assert line[0].tolist() == [100, summary.top1_percent.iloc[0]]
    np.testing.assert_allclose(line[1:, 0], chain.macs_kept_percent)
    np.testing.assert_allclose(line[1:, 1], chain.top1_percent)


def test_axis_runs_from_dense_to_small_with_ticks_at_the_levels(draw):
    (axes,) = draw()[0].axes
    left, right = axes.get_xlim()
    assert left > 100 > 29 > right
    assert axes.get_xscale() == "linear"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["100", "70", "50", "30"]


def test_small_levels_make_the_axis_logarithmic(draw):
    (axes,) = draw(keep=(0.5, 0.2, 0.1, 0.05))[0].axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["100", "50", "20", "10", "5"]


def test_many_levels_keep_their_labels_apart(draw, assert_legible):
    figure, _ = draw(keep=tuple(round(0.95 - 0.05 * i, 2) for i in range(18)), methods=("oba-joint",))
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert shown[0] == "100"
    assert 5 < len(shown) < 18
    assert_legible(figure)


def test_error_bars_are_the_sample_deviations(draw):
    figure, summary = draw(methods=("oba-joint",))
    (bars,) = [c for c in figure.axes[0].containers if c.has_yerr]
    (segments,) = bars[2]
    heights = [np.ptp(segment[:, 1]) / 2 for segment in segments.get_segments()]
    chain = summary[summary.method == "oba-joint"]
    np.testing.assert_allclose(heights, [0, *chain.top1_percent_std], atol=1e-9)


def test_one_seed_has_no_error_bars_and_says_so(draw):
    figure, _ = draw(seeds=(0,), controls=("scratch", "dense-longer"))
    assert not [c for c in figure.axes[0].containers if c.has_yerr]
    assert any("One seed: no error bars" in text for text in texts(figure))


def test_scratch_is_hollow_and_explained_where_it_is(draw):
    figure, summary = draw(controls=("scratch",))
    (hollow,) = marked(figure.axes[0], "o", filled=False)
    scratch = summary[(summary.method == "oba-joint") & (summary.variant == "scratch")]
    np.testing.assert_allclose(hollow[:, 1], scratch.top1_percent)
    assert any("Hollow markers" in text for text in texts(figure))
    assert not any("Hollow markers" in text for text in texts(draw()[0]))


def test_the_longer_trained_dense_net_stands_at_its_levels(draw):
    figure, _ = draw(controls=("dense-longer",))
    (line,) = marked(figure.axes[0], "d", filled=True)
    np.testing.assert_allclose(line[:, 0], [100, 70, 50, 30])
    assert any(text.startswith("dense-longer: nothing removed") for text in texts(figure))
    assert not any(text.startswith("dense-longer") for text in texts(draw()[0]))


def test_no_method_hides_another_of_the_same_accuracy(draw, monkeypatch, make_sweep):
    monkeypatch.setattr(type(make_sweep()), "top1", lambda self, model, seed, method, keep, scratch=False: 0.9)
    (axes,) = draw(keep=(0.5,), controls=("scratch",))[0].axes
    lines = [marked(axes, marker, filled=True) for marker in "os^"]
    markers = axes.transData.transform([line[-1] for (line,) in lines])
    apart = abs(markers[:, None, 0] - markers[None, :, 0])[~np.eye(3, dtype=bool)]
    assert apart.min() > 0.08 * axes.figure.dpi


def test_every_line_is_named_with_its_last_value(draw):
    figure, summary = draw(controls=("dense-longer",))
    last = summary[summary.keep.isin([1.0, 0.3])]
    assert {f"{row.method} {row.top1_percent:.1f}" for row in last.itertuples()} <= set(texts(figure))


def test_models_and_schedules_are_panels_that_share_the_scale_of_a_model(draw):
    figure, _ = draw(
        models=("resnet20", "vgg19"), schedules=("iterative", "oneshot"), methods=("oba-joint",), keep=(0.5,)
    )
    headings = [axes.get_title(loc="left") for axes in figure.axes]
    assert headings == ["resnet20, iterative", "resnet20, oneshot", "vgg19, iterative", "vgg19, oneshot"]
    limits = [axes.get_ylim() for axes in figure.axes]
    assert limits[0] == limits[1] != limits[2] == limits[3]


def test_methods_that_remove_weights_have_panels_of_their_own(draw, assert_legible):
    figure, summary = draw(masking=("taylor",), methods=("oba-joint", "taylor"), controls=("scratch", "dense-longer"))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["resnet20, structures", "resnet20, weights"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["MACs kept (%)", "Weights kept (%)"]
    (line,) = marked(figure.axes[1], "s", filled=True)
    chain = summary[(summary.method == "taylor") & (summary.variant == "finetuned")]
    np.testing.assert_allclose(line[:, 0], [100, *chain.weights_kept_percent])
    assert len(set(chain.weights_kept_percent)) == 3
    assert not marked(figure.axes[0], "s", filled=True)
    for axes in figure.axes:
        assert len(marked(axes, "d", filled=True)) == 1, "the control belongs to both"
    assert "digits: test accuracy against MACs and weights kept" in texts(figure)
    assert_legible(figure)
    (alone,) = draw(masking=("taylor",), methods=("taylor",))[0].axes
    assert (alone.get_title(loc="left"), alone.get_xlabel()) == ("resnet20", "Weights kept (%)")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"seeds": (0,), "controls": ("scratch", "dense-longer")},
        {"models": ("resnet20", "vgg19", "timm-convnext_tiny"), "keep": (0.5,)},
        {
            "methods": ("oba-joint", "oba", "oba-exact", "oba-diag", "taylor", "magnitude", "fisher", "random"),
            "controls": ("scratch", "dense-longer"),
            "keep": (0.9, 0.8),
        },
    ],
)
def test_nothing_is_cut_off_or_written_over(draw, assert_legible, options):
    assert_legible(draw(**options)[0])

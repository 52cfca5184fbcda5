from __future__ import annotations

import numpy as np
import pytest

from oba.errors import FileError
from oba.report.curves import draw_curves
from oba.report.history import mean_history
from oba.report.style import line_styles

pytestmark = pytest.mark.usefixtures("in_style")


def headings(figure):
    return [title for axes in figure.axes if (title := axes.get_title(loc="left"))]


def test_panels_and_their_lines(make_sweep):
    nets = make_sweep(controls=("scratch", "dense-longer")).write()
    figure = draw_curves(nets, "digits")
    assert headings(figure) == ["dense", *(f"fine-tuning, keep {keep}" for keep in ("0.70", "0.50", "0.30"))]
    assert len(figure.axes) == 8
    above = figure.axes[2]
    chosen = [
        net.directory / "history.csv"
        for net in nets
        if (net.method, net.keep, net.variant) == ("taylor", 0.7, "finetuned")
    ]
    expected = mean_history(chosen)
    color = line_styles(["oba-joint", "taylor", "magnitude"])["taylor"].color
    (line,) = [line for line in above.lines if line.get_color() == color]
    np.testing.assert_allclose(line.get_xydata(), expected[["epoch", "val_top1"]])
    assert len([line for line in above.lines if len(line.get_xdata()) == 12]) == 4


def test_the_dense_nets_last_epoch_is_a_reference(make_sweep):
    nets = make_sweep().write()
    dense = mean_history([net.directory / "history.csv" for net in nets if net.method == "dense"])
    figure = draw_curves(nets, "digits")
    for axes in figure.axes[2::2]:
        (reference,) = [line for line in axes.lines if len(line.get_xdata()) == 2]
        assert reference.get_ydata()[0] == pytest.approx(dense.val_top1.iloc[-1])


def test_fine_tuning_shares_axes(make_sweep):
    figure = draw_curves(make_sweep().write(), "digits")
    accuracy = {axes.get_ylim() for axes in figure.axes[2::2]}
    loss = {axes.get_ylim() for axes in figure.axes[3::2]}
    assert len(accuracy) == len(loss) == 1
    assert figure.axes[0].get_ylim() not in accuracy


@pytest.mark.parametrize(("losses", "scale"), [((2.0, 0.1), "log"), ((0.2, 0.1), "linear"), ((0.2, 0.0), "linear")])
def test_losses_over_decades_are_logarithmic(make_sweep, losses, scale):
    nets = make_sweep(seeds=(0,), methods=("taylor",), keep=(0.5,)).write()
    rows = [f"{epoch},{loss},0.9" for epoch, loss in enumerate(losses, 1)]
    for net in nets:
        (net.directory / "history.csv").write_text("\n".join(["epoch,train_loss,val_top1", *rows]))
    assert [axes.get_yscale() for axes in draw_curves(nets, "digits").axes[1::2]] == [scale, scale]


def test_a_dense_net_that_was_taken_as_it_is(make_sweep, assert_legible):
    nets = make_sweep(seeds=(0,)).write()
    path = nets[0].directory / "history.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    figure = draw_curves(nets, "digits")
    assert [text.get_text() for axes in figure.axes[:2] for text in axes.texts] == ["not trained"] * 2
    assert_legible(figure)


def test_nothing_trained_at_all(make_sweep, assert_legible):
    figure = draw_curves(make_sweep(epochs=0).write(), "digits")
    assert sum(len(axes.texts) for axes in figure.axes) == len(figure.axes) == 8
    assert_legible(figure)


def test_many_levels_break_evenly_under_the_columns_of_fine_tuning(make_sweep, assert_legible):
    keep = tuple(round(0.9 - 0.1 * i, 1) for i in range(8))
    figure = draw_curves(make_sweep(seeds=(0,), methods=("taylor",), keep=keep).write(), "digits")
    lefts = [round(axes.get_position().x0, 6) for axes in figure.axes[::2]]
    assert len(lefts) == 9
    assert lefts[1:5] == lefts[5:]
    assert any(text.get_text() == "resnet20, continued" for text in figure.texts)
    assert_legible(figure)


def test_a_missing_history_is_named(make_sweep):
    nets = make_sweep().write()
    (nets[1].directory / "history.csv").unlink()
    with pytest.raises(FileError, match=r"keep0\.70/finetuned/history\.csv: no such file"):
        draw_curves(nets, "digits")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"seeds": (0,), "keep": (0.5,), "methods": ("oba-joint",)},
        {"models": ("resnet20", "vgg19"), "schedules": ("iterative", "oneshot"), "keep": (0.5,)},
        {"methods": tuple(f"method-{i}" for i in range(8)), "epochs": 1},
        {"epochs": 150},
    ],
)
def test_nothing_is_cut_off_or_written_over(make_sweep, assert_legible, options):
    assert_legible(draw_curves(make_sweep(**options).write(), "digits"))

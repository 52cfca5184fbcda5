from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from oba.errors import FileError
from oba.report.channels import draw_channels
from oba.report.style import ALARM

pytestmark = pytest.mark.usefixtures("in_style")


def panels(figure):
    """The maps, without the key's axes."""
    return [axes for axes in figure.axes if axes.get_title(loc="left")]


def numbers(axes, columns):
    return np.array([int(text.get_text()) for text in axes.texts]).reshape(-1, columns)


def rewrite(net, layer, kept):
    """Let a net's plan keep the first `kept` channels of a layer."""
    path = net.pruned / "plan.json"
    document = json.loads(path.read_text())
    axes = [entry for entry in document["plan"]["axes"] if entry["layer"] != layer]
    if kept is not None:
        axes.append({"layer": layer, "axis": "out", "size": 32, "kept": list(range(kept))})
    document["plan"]["axes"] = axes
    path.write_text(json.dumps(document))


def test_numbers_are_means_over_seeds_in_the_order_of_the_net(make_sweep, texts_drawn):
    nets = make_sweep(methods=("taylor",), keep=(0.5,)).write()
    rewrite(nets[1], "layer2.0.conv1", 10)
    rewrite(nets[3], "layer2.0.conv1", 20)
    rewrite(nets[1], "layer2.1.conv1", None)
    rewrite(nets[3], "layer2.1.conv1", None)
    figure = draw_channels(nets, "digits")
    (axes,) = panels(figure)
    found = numbers(axes, 1)[:, 0]
    assert found[3] == 15
    assert found[4] == 32
    labels = [text.get_text() for text in figure.texts if ".conv1" in text.get_text()]
    assert labels == [f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (0, 1)]
    fractions = axes.collections[0].get_array().ravel()
    assert fractions[3] == pytest.approx(15 / 32)
    assert fractions[4] == 1
    assert "mean over 2 seeds" in " ".join(text for text, _ in texts_drawn(figure))


def test_layers_below_a_tenth_are_marked(make_sweep):
    nets = make_sweep(seeds=(0,), methods=("taylor",), keep=(0.5, 0.3)).write()
    for net, kept in ((nets[1], 4), (nets[2], 3)):
        rewrite(net, "layer2.0.conv1", kept)
    (axes,) = panels(draw_channels(nets, "digits"))
    marks = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [(int(mark.get_x()), int(mark.get_y())) for mark in marks] == [(1, 3)]
    assert [text.get_text() for text in axes.texts if text.get_fontweight() == "bold"] == ["3"]


def test_without_marked_layers_only_the_key_has_a_mark(make_sweep):
    figure = draw_channels(make_sweep().write(), "digits")
    assert not any(axes.patches for axes in panels(figure))
    assert any("fewer than 10 % kept" in text.get_text() for text in figure.texts)
    from matplotlib.colors import to_rgba

    assert [p.get_edgecolor() for axes in figure.axes for p in axes.patches] == [to_rgba(ALARM)]


def test_levels_are_columns_and_methods_panels(make_sweep):
    figure = draw_channels(make_sweep(controls=("scratch", "dense-longer")).write(), "digits")
    assert [axes.get_title(loc="left") for axes in panels(figure)] == ["oba-joint", "taylor", "magnitude"]
    for axes in panels(figure):
        assert [label.get_text() for label in axes.get_xticklabels()] == ["0.70", "0.50", "0.30"]
        assert numbers(axes, 3).shape == (7, 3)


def test_schedules_are_named_where_there_are_several(make_sweep):
    figure = draw_channels(make_sweep(schedules=("iterative", "oneshot"), methods=("taylor",)).write(), "digits")
    assert [axes.get_title(loc="left") for axes in panels(figure)] == ["taylor, iterative", "taylor, oneshot"]


def test_coupled_layers_are_counted(make_sweep, tmp_path):
    nets = make_sweep(seeds=(0,), methods=("taylor",), keep=(0.5,)).write()
    path = nets[1].pruned.parents[3] / "structures.json"
    groups = json.loads(path.read_text())
    groups[0]["slices"].append({"layer": "layer1.0.conv2", "axis": "out", "indices": groups[0]["slices"][0]["indices"]})
    path.write_text(json.dumps(groups))
    texts = [text.get_text() for text in draw_channels(nets, "digits").texts]
    assert "conv1 (+1)" in texts
    assert any("(+n)" in text for text in texts)


def test_single_weights_are_mapped_in_per_cent_of_each_layer(make_sweep, assert_legible):
    sweep = make_sweep(methods=("taylor", "magnitude"), keep=(0.5,), masking=("magnitude",))
    figure = draw_channels(sweep.write(), "digits")
    channels, weights = panels(figure)
    assert [axes.get_title(loc="left") for axes in (channels, weights)] == ["taylor", "magnitude"]
    left = [sweep.weights("resnet20", seed, "magnitude", 0.5) for seed in (0, 1)]
    expected = [np.mean([of["kept"][n] for of in left]) / left[0]["dense"][n] for n in left[0]["dense"]]
    np.testing.assert_allclose(weights.collections[0].get_array().ravel(), expected)
    assert list(numbers(weights, 1)[:, 0]) == [round(100 * fraction) for fraction in expected]
    texts = [text.get_text() for text in figure.texts]
    assert "digits: channels and weights kept in every layer" in texts
    assert {"resnet20, weights", "layer3.1.conv1", "36864"} <= {*texts}
    assert not any(text.endswith(".weight") for text in texts)
    assert_legible(figure)
    alone = draw_channels(make_sweep(methods=("magnitude",), masking=("magnitude",)).write(), "digits")
    assert "digits: weights kept in every layer" in [text.get_text() for text in alone.texts]
    assert len(panels(alone)) == 1
    assert_legible(alone)


def test_what_is_written_as_a_tenth_is_not_marked_as_less(make_sweep):
    nets = make_sweep(seeds=(0,), methods=("magnitude",), keep=(0.5,), masking=("magnitude",)).write()
    kept, dense = {"a.weight": 999, "b.weight": 940}, {"a.weight": 10000, "b.weight": 10000}
    path = nets[1].pruned / "metrics.json"
    weights = {"kept": kept, "dense": dense, "fraction": 0.097}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weights": weights}))
    (panel,) = panels(draw_channels(nets, "digits"))
    assert [text.get_text() for text in panel.texts] == ["10", "9"]
    assert [text.get_fontweight() for text in panel.texts] == ["normal", "bold"]


def test_a_sweep_without_pruned_nets_says_so(make_sweep, assert_legible):
    figure = draw_channels(make_sweep(methods=(), controls=("dense-longer",)).write(), "digits")
    assert any("no layer lost a channel" in text.get_text() for text in figure.texts)
    assert_legible(figure)


def test_damaged_plans_are_named(make_sweep):
    nets = make_sweep().write()
    path = nets[2].pruned / "plan.json"
    path.write_text("{}")
    with pytest.raises(FileError, match=r"keep0\.50/pruned/plan\.json: not a plan"):
        draw_channels(nets, "digits")


@pytest.mark.parametrize(
    "options",
    [
        {"warnings": True},
        {
            "models": ("resnet20", "vgg19"),
            "schedules": ("iterative", "oneshot"),
            "methods": ("oba-joint", "oba-exact"),
        },
        {"methods": tuple(f"method-{i}" for i in range(8)), "keep": (0.9, 0.7, 0.5, 0.3, 0.2, 0.1)},
        {"keep": (0.5,), "methods": ("magnitude-uniform", "reconstruction-uniform-refit", "oba")},
        {"keep": (0.5,), "layers": {f"stages.3.blocks.{i}.mlp.fc1": 3072 for i in range(20)}},
    ],
)
def test_nothing_is_cut_off_or_written_over(make_sweep, assert_legible, options):
    assert_legible(draw_channels(make_sweep(seeds=(0,), **options).write(), "digits"))

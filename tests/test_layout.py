"""Paths, and the nets that a sweep consists of."""

from __future__ import annotations

from pathlib import Path

from oba.layout import Coordinates, Layout, method_of, model_of, models_by_slug, nets, start_of
from oba.study import parse_study


def test_sweep_is_the_product_of_the_lists(study_values):
    study = parse_study(
        study_values | {"seeds": [0, 1], "methods": ["taylor", "random"], "schedules": ["iterative", "oneshot"]}, "s"
    )
    found = nets(study)
    assert [net.variant for net in found] == ["dense"] * 2 + ["finetuned"] * 2 * 2 * 2 * 2
    assert len({*found}) == len(found)


def test_controls_add_their_nets(study_values):
    plain = {*nets(parse_study(study_values, "s"))}
    both = {*nets(parse_study(study_values | {"controls": ["scratch", "dense-longer"]}, "s"))}
    assert plain < both
    assert {(net.method, net.keep, net.variant) for net in both - plain} == {
        ("magnitude", "0.60", "scratch"),
        ("magnitude", "0.30", "scratch"),
        ("dense-longer", "0.60", "finetuned"),
        ("dense-longer", "0.30", "finetuned"),
    }


def test_paths_and_starts(study_values):
    study = parse_study(study_values | {"models": ["timm/resnet10t"]}, "s")
    layout = Layout("tiny")
    first = Coordinates("timm-resnet10t", 3, "taylor", "iterative", "0.60", "finetuned")
    second = Coordinates("timm-resnet10t", 3, "taylor", "iterative", "0.30", "finetuned")
    oneshot = Coordinates("timm-resnet10t", 3, "taylor", "oneshot", "0.30", "finetuned")
    chain = Path("results/tiny/timm-resnet10t/seed3/taylor-iterative")
    assert layout.net(second) == chain / "keep0.30" / "finetuned"
    assert start_of(study, layout, first) == Path("results/tiny/timm-resnet10t/seed3/dense")
    assert start_of(study, layout, second) == chain / "keep0.60" / "finetuned"
    assert start_of(study, layout, oneshot) == start_of(study, layout, first)
    assert layout.within(chain / "keep0.30" / "pruned" / "run.json") == (
        "timm-resnet10t/seed3/taylor-iterative/keep0.30/pruned/run"
    )


def test_coordinates_that_do_not_apply_are_left_out():
    assert Coordinates("resnet8", 0, keep="0.30").given() == {"model": "resnet8", "seed": "0", "keep": "0.30"}


def test_models_and_methods_are_found_by_what_paths_call_them(study_values):
    methods = ["taylor", {"name": "wide", "criterion": "taylor", "allocation": "uniform"}]
    study = parse_study(study_values | {"models": ["resnet8", "timm/resnet10t"], "methods": methods}, "s")
    assert models_by_slug(study) == {"resnet8": "resnet8", "timm-resnet10t": "timm/resnet10t"}
    assert model_of(study, "timm-resnet10t").name == "timm/resnet10t"
    assert method_of(study, "wide").allocation.name == "uniform"
    assert {net.method for net in nets(study)} == {"", "taylor", "wide"}

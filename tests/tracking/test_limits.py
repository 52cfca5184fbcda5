"""Names, lengths and sizes: checked against MLflow's own validation."""

from __future__ import annotations

import json

import pytest

from oba.tracking.limits import batches, clean, clean_params, clean_tags


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("val_top1", "val_top1"),
        ("val/top1", "val/top1"),
        ("lr (warm-up) %", "lr _warm-up_ _"),
        ("größe", "gr__e"),
        ("a//b", "a__b"),
        ("../x", "__x"),
        ("./x", "__x"),
        ("/x", "_x"),
        ("a/../b", "a_.._b"),
        ("x/", "x_"),
        (".", "_"),
        ("..", "_"),
        ("", "_"),
        ("n" * 300, "n" * 250),
    ],
)
def test_names_become_what_mlflow_allows(name, allowed):
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name

    assert clean(name) == allowed
    for check in (_validate_metric_name, _validate_param_name, _validate_tag_name):
        check(clean(name))


def test_long_texts_are_cut_and_empty_tags_left_out():
    assert clean_params({"a b": "x" * 7000, "empty": ""}) == {"a b": "x" * 6000, "empty": ""}
    assert clean_tags({"a": "x" * 7000, "empty": ""}) == {"a": "x" * 5000}


def test_batches_hold_everything_in_order_within_mlflows_limits():
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.utils.validation import _validate_batch_log_api_req, _validate_batch_log_limits

    entries = [("params", Param(f"p{n}", "é" * 6000 if n < 60 else "1")) for n in range(250)]
    entries += [("tags", RunTag(f"t{n}", "x")) for n in range(230)]
    entries += [("metrics", Metric("loss", 0.5, n, n)) for n in range(2500)]
    cut = list(batches(entries))
    for batch in cut:
        _validate_batch_log_limits(**batch)
        _validate_batch_log_api_req(json.dumps({kind: [dict(e) for e in list_] for kind, list_ in batch.items()}))
    for kind in ("params", "tags", "metrics"):
        assert [dict(e) for batch in cut for e in batch[kind]] == [dict(e) for k, e in entries if k == kind]
    assert len(cut) <= 12


def test_typical_stage_needs_one_call():
    from mlflow.entities import Metric, Param, RunTag

    entries = [("params", Param(f"p{n}", "value")) for n in range(30)] + [
        ("tags", RunTag(f"t{n}", "x")) for n in range(5)
    ]
    entries += [("metrics", Metric(f"m{n % 6}", 0.5, n, n // 6)) for n in range(120)]
    assert len(list(batches(entries))) == 1


def test_nothing_is_no_call():
    assert list(batches([])) == []

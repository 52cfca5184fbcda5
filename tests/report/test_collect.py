from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from oba.errors import FileError
from oba.records import Duplicates
from oba.report.collect import RUN_COLUMNS, collect, finished, finished_nets, read_runs

EXPECTED_COLUMNS = [
    *("model", "seed", "method", "schedule", "keep", "variant", "missing"),
    *("test_top1", "test_top5", "test_loss", "test_images", "val_top1", "val_top1_before_finetuning"),
    *("macs", "macs_kept", "weights_kept", "parameters", "bytes"),
    *("latency_ms", "dense_latency_ms", "speedup", "speedup_low", "speedup_high", "latency_batch", "latency_runs"),
    *("epochs", "seconds", "criterion", "allocation", "update", "granularity", "device", "threads"),
    *("warnings", "warning_text", "duplicates"),
]

DUPLICATES = Duplicates(counts={"val in train": 0, "test in train": 3}, examples=["a in test = b in train"])


def damage(path: Path, key: str, value: object) -> None:
    document = json.loads(path.read_text())
    *above, last = key.split(".")
    inner = document
    for step in above:
        inner = inner[step]
    inner[last] = value
    path.write_text(json.dumps(document))


def test_one_row_per_net_in_the_order_of_the_nets(make_sweep):
    nets = make_sweep().write()
    runs = collect(nets)
    assert list(runs.columns) == RUN_COLUMNS == EXPECTED_COLUMNS
    assert len(runs) == 2 * (1 + 3 * 3)
    assert list(runs.method) == [net.method for net in nets]
    assert list(runs.keep) == [net.keep for net in nets]


def test_numbers_come_from_the_right_files(make_sweep):
    nets = make_sweep(seeds=(0,), methods=("taylor",), keep=(0.5,), masking=("taylor",)).write()
    directory = nets[1].directory
    damage(
        directory / "evaluation.json",
        "weights",
        {"kept": {"a": 1, "b": 4}, "dense": {"a": 10, "b": 10}, "fraction": 0.25},
    )
    damage(directory / "evaluation.json", "test", {"loss": 0.7, "top1": 0.81, "top5": 0.99, "images": 300})
    damage(directory / "evaluation.json", "cost", {"macs": 11, "parameters": 22, "bytes": 33})
    damage(directory / "evaluation.json", "macs_kept", 0.48)
    latency = {"batch": 4, "runs": 9, "median_ms": 2.0, "dense_median_ms": 3.0}
    latency |= {"deterministic": False, "cudnn_benchmark": True}
    damage(
        directory / "evaluation.json", "latency", latency | {"speedup": 1.5, "speedup_low": 1.4, "speedup_high": 1.6}
    )
    damage(directory / "metrics.json", "val.top1", 0.8)
    damage(directory / "metrics.json", "epochs", 7)
    damage(directory / "metrics.json", "seconds", 12.5)
    damage(directory.parent / "pruned" / "metrics.json", "val.top1", 0.4)
    damage(directory.parent / "pruned" / "metrics.json", "warnings", ["first", "second"])
    method = {"criterion": "magnitude", "allocation": "per-mac", "update": "least-squares"}
    damage(directory.parent / "pruned" / "metrics.json", "method", method)
    row = collect(nets, duplicates={0: DUPLICATES}).iloc[1].to_dict()
    assert row == {
        "model": "resnet20",
        "seed": 0,
        "method": "taylor",
        "schedule": "iterative",
        "keep": 0.5,
        "variant": "finetuned",
        "missing": "",
        "test_top1": 0.81,
        "test_top5": 0.99,
        "test_loss": 0.7,
        "test_images": 300,
        "val_top1": 0.8,
        "val_top1_before_finetuning": 0.4,
        "macs": 11,
        "macs_kept": 0.48,
        "weights_kept": 0.25,
        "parameters": 22,
        "bytes": 33,
        "latency_ms": 2.0,
        "dense_latency_ms": 3.0,
        "speedup": 1.5,
        "speedup_low": 1.4,
        "speedup_high": 1.6,
        "latency_batch": 4,
        "latency_runs": 9,
        "epochs": 7,
        "seconds": 12.5,
        "criterion": "magnitude",
        "allocation": "per-mac",
        "update": "least-squares",
        "granularity": "weights",
        "device": "cpu",
        "threads": 1,
        "warnings": 2,
        "warning_text": "first | second",
        "duplicates": "3 test in train",
    }


def test_nets_without_removal_read_no_pruned_directory(make_sweep):
    runs = collect(make_sweep(controls=("dense-longer",)).write())
    whole = runs[runs.method.isin(["dense", "dense-longer"])]
    assert len(whole) == 2 * (1 + 3)
    assert whole.val_top1_before_finetuning.isna().all()
    assert (whole[["criterion", "allocation", "update"]] == "").all(axis=None)
    assert (whole.macs_kept == 1).all()


def test_scratch_shares_the_warnings_but_not_the_weights(make_sweep):
    runs = collect(make_sweep(controls=("scratch",), warnings=True, update=lambda _: "bias").write())
    smallest = runs[(runs.keep == 0.3) & (runs.seed == 0) & (runs.method == "taylor")].set_index("variant")
    assert list(smallest.index) == ["finetuned", "scratch"]
    assert list(smallest.warnings) == [1, 1]
    assert smallest.warning_text["scratch"] == "layer2.0.conv1 keeps 1 of 32 channels"
    assert smallest["update"].to_dict() == {"finetuned": "bias", "scratch": ""}
    assert list(smallest.allocation) == ["uniform", "uniform"]
    assert pd.isna(smallest.val_top1_before_finetuning["scratch"])


def test_top5_may_be_missing(make_sweep):
    runs = collect(make_sweep(top5=False).write())
    assert runs.test_top5.isna().all()
    assert runs.test_top5.dtype == "float64"


def test_read_runs_gives_back_what_was_collected(make_sweep, tmp_path):
    runs = collect(make_sweep(top5=False, controls=("scratch", "dense-longer"), warnings=True).write())
    runs.to_csv(tmp_path / "runs.csv", index=False)
    pd.testing.assert_frame_equal(read_runs(tmp_path / "runs.csv"), runs)


def test_a_missing_net_is_a_row_that_says_why(make_sweep, tmp_path):
    nets = make_sweep(seeds=(0,), methods=("taylor",)).write()
    shutil.rmtree(nets[2].directory)
    runs = collect(nets, {nets[2]: "prune failed: no"})
    assert list(runs.missing) == ["", "", "prune failed: no", ""]
    assert runs.loc[2, ["model", "method", "keep", "variant"]].to_list() == ["resnet20", "taylor", 0.5, "finetuned"]
    measured = runs.loc[2, EXPECTED_COLUMNS[7:]]
    assert (measured.isna() | (measured == "")).all()
    assert list(finished(runs).keep) == [1, 0.7, 0.3]
    assert finished_nets(nets, runs) == [nets[0], nets[1], nets[3]]
    runs.to_csv(tmp_path / "runs.csv", index=False)
    pd.testing.assert_frame_equal(read_runs(tmp_path / "runs.csv"), runs)
    assert ",2000," in (tmp_path / "runs.csv").read_text(), "whole numbers stay whole beside a gap"


def test_without_a_dense_net_there_is_nothing_to_report(make_sweep):
    nets = make_sweep(methods=("taylor",)).write()
    whole = [net for net in nets if net.method == "dense"]
    with pytest.raises(FileError, match=r"no dense net has been evaluated, .*; dense failed: out of memory"):
        collect(nets, dict.fromkeys(whole, "dense failed: out of memory"))
    assert len(collect(nets, {whole[0]: "dense failed: out of memory"})) == len(nets)
    with pytest.raises(FileError, match="no dense net has been evaluated"):
        collect([])


@pytest.mark.parametrize("name", ["evaluation.json", "metrics.json"])
def test_missing_files_are_named(make_sweep, name):
    nets = make_sweep(seeds=(0,)).write()
    (nets[2].directory / name).unlink()
    with pytest.raises(FileError, match=rf"oba-joint-iterative/keep0\.50/finetuned/{name}: no such file"):
        collect(nets)


def test_a_missing_pruned_sibling_is_named(make_sweep):
    nets = make_sweep(seeds=(0,)).write()
    (nets[2].pruned / "metrics.json").unlink()
    with pytest.raises(FileError, match=r"keep0\.50/pruned/metrics\.json: no such file"):
        collect(nets)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("evaluation.json", "test.top1", 97.0),
        ("evaluation.json", "test.images", 0),
        ("evaluation.json", "latency.speedup", None),
        ("evaluation.json", "cost.macs", 1.5),
        ("evaluation.json", "device", 3),
        ("metrics.json", "val", []),
        ("metrics.json", "seconds", float("nan")),
        ("metrics.json", "cost", {"macs": 3}),
        ("../pruned/metrics.json", "method.update", 3),
        ("../pruned/metrics.json", "warnings", [1]),
    ],
)
def test_damaged_values_name_file_and_key(make_sweep, name, key, value):
    nets = make_sweep(seeds=(0,), methods=("taylor",), keep=(0.5,)).write()
    damage(nets[1].directory / name, key, value)
    with pytest.raises(FileError, match=rf"{Path(name).name}: {key}") as caught:
        collect(nets)
    assert "\n" not in str(caught.value)


def test_truncated_json_is_named(make_sweep):
    nets = make_sweep(seeds=(0,)).write()
    path = nets[0].directory / "evaluation.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(FileError, match=r"dense/evaluation\.json: not valid JSON"):
        collect(nets)

from __future__ import annotations

import math

import pandas as pd
import pytest

from oba.errors import FileError
from oba.report.collect import RUN_COLUMNS, collect
from oba.report.summarize import SUMMARY_COLUMNS, read_summary, summarize

DEFAULTS = {
    "model": "m",
    "test_top5": math.nan,
    "test_loss": 0.1,
    "test_images": 100,
    "macs": 10,
    "speedup": 1.0,
    "speedup_low": 0.9,
    "speedup_high": 1.1,
    "latency_batch": 1,
    "latency_runs": 3,
    "missing": "",
    "device": "cpu",
    "threads": 1,
    "warnings": 0,
    "warning_text": "",
    "granularity": "structures",
}


def run(seed, method, keep, top1, variant="finetuned", schedule="iterative", **more):
    own = {"seed": seed, "method": method, "keep": keep, "test_top1": top1, "macs_kept": keep}
    own |= {"variant": variant, "schedule": schedule, "parameters": round(1000 * keep)}
    if method == "dense":
        own |= {"variant": "dense", "schedule": "", "granularity": ""}
    return DEFAULTS | own | more


def table(*rows):
    return pd.DataFrame(rows, columns=pd.Index(RUN_COLUMNS))


@pytest.fixture
def two_seeds():
    return table(
        run(0, "dense", 1.0, 0.90),
        run(0, "first", 0.5, 0.88, speedup=1.4),
        run(0, "first", 0.5, 0.80, variant="scratch"),
        run(0, "other", 0.5, 0.86, parameters=300),
        run(1, "dense", 1.0, 0.94),
        run(1, "first", 0.5, 0.90, speedup=1.6),
        run(1, "first", 0.5, 0.82, variant="scratch"),
        run(1, "other", 0.5, 0.82, parameters=500),
    )


def row(summary, method, variant="finetuned"):
    (found,) = summary[(summary.method == method) & (summary.variant == variant)].to_dict("records")
    return found


def test_means_and_sample_deviations(two_seeds):
    summary = summarize(two_seeds, "first")
    assert list(summary.columns) == SUMMARY_COLUMNS
    dense = row(summary, "dense", "dense")
    assert dense["seeds"] == 2
    assert dense["top1_percent"] == pytest.approx(92)
    assert dense["top1_percent_std"] == pytest.approx(math.sqrt(8))
    other = row(summary, "other")
    assert other["top1_percent"] == pytest.approx(84)
    assert other["top1_percent_std"] == pytest.approx(math.sqrt(8))
    assert other["macs_kept_percent"] == pytest.approx(50)
    assert other["parameters_kept_percent"] == pytest.approx(40)
    assert row(summary, "first")["speedup"] == pytest.approx(1.5)


def test_drop_is_paired_with_the_same_seeds_dense_net(two_seeds):
    other = row(summarize(two_seeds, "first"), "other")
    assert other["drop_points"] == pytest.approx((4 + 12) / 2)
    assert other["drop_points_std"] == pytest.approx(math.sqrt(32))
    assert math.isnan(row(summarize(two_seeds, "first"), "dense", "dense")["drop_points"])


def test_difference_to_the_first_method_is_paired_by_seed(two_seeds):
    summary = summarize(two_seeds, "first")
    other = row(summary, "other")
    assert other["versus"] == "first"
    assert other["versus_points"] == pytest.approx((-2 - 8) / 2)
    assert other["versus_points_std"] == pytest.approx(math.sqrt(18))
    assert other["versus_seeds"] == 2
    scratch = row(summary, "first", "scratch")
    assert scratch["versus_points"] == pytest.approx(-8)
    for itself in (row(summary, "first"), row(summary, "dense", "dense")):
        assert itself["versus"] == ""
        assert math.isnan(itself["versus_points"])
        assert itself["versus_seeds"] == 0


def test_only_shared_seeds_are_compared(two_seeds):
    without = two_seeds[~((two_seeds.method == "first") & (two_seeds.seed == 1))]
    other = row(summarize(without, "first"), "other")
    assert other["seeds"] == 2
    assert other["versus_seeds"] == 1
    assert other["versus_points"] == pytest.approx(-2)
    assert math.isnan(other["versus_points_std"])


def test_one_seed_has_no_deviation(two_seeds):
    summary = summarize(two_seeds[two_seeds.seed == 0], "first")
    assert (summary.seeds == 1).all()
    deviations = [column for column in summary.columns if column.endswith("_std")]
    assert len(deviations) == 3
    assert summary[deviations].isna().all().all()


def test_without_a_comparable_first_method_nothing_is_compared(two_seeds):
    summary = summarize(two_seeds, "absent")
    assert (summary.versus == "").all()
    assert summary.versus_points.isna().all()


def test_every_granularity_has_a_first_method_of_its_own():
    weights = {"granularity": "weights", "macs_kept": 1.0}
    runs = table(
        run(0, "dense", 1.0, 0.9),
        run(0, "first", 0.5, 0.88),
        run(0, "masks", 0.5, 0.80, weights_kept=0.5, **weights),
        run(0, "masks", 0.5, 0.70, variant="scratch", weights_kept=0.5, **weights),
        run(0, "more masks", 0.5, 0.83, weights_kept=0.4, **weights),
        run(0, "other", 0.5, 0.86),
        run(0, "dense-longer", 0.5, 0.9, granularity=""),
    )
    summary = summarize(runs, "first", "masks")
    versus = {(r.method, r.variant): (r.versus, r.versus_points) for r in summary.itertuples() if r.versus}
    assert versus == {
        ("masks", "scratch"): ("masks", pytest.approx(-10)),
        ("more masks", "finetuned"): ("masks", pytest.approx(3)),
        ("other", "finetuned"): ("first", pytest.approx(-2)),
        ("dense-longer", "finetuned"): ("first", pytest.approx(2)),
    }
    assert row(summary, "more masks")["weights_kept_percent"] == pytest.approx(40)
    assert math.isnan(row(summary, "other")["weights_kept_percent"])
    assert row(summary, "dense", "dense")["granularity"] == ""


def test_order_of_rows(make_sweep):
    nets = make_sweep(
        models=("vgg19", "resnet20"),
        methods=("taylor", "oba-joint"),
        schedules=("oneshot", "iterative"),
        keep=(0.7, 0.3),
        controls=("scratch", "dense-longer"),
    ).write()
    summary = summarize(collect(nets), "oba-joint")
    level = [("oba-joint", "finetuned"), ("oba-joint", "scratch"), ("taylor", "finetuned"), ("taylor", "scratch")]
    level += [("dense-longer", "finetuned")]
    expected = []
    for model in ("vgg19", "resnet20"):
        expected.append((model, "", 1.0, "dense", "dense"))
        for schedule in ("oneshot", "iterative"):
            expected += [(model, schedule, keep, *net) for keep in (0.7, 0.3) for net in level]
    found = summary[["model", "schedule", "keep", "method", "variant"]].itertuples(index=False, name=None)
    assert list(found) == expected


def test_top5_is_averaged_where_it_was_measured(make_sweep):
    assert summarize(collect(make_sweep().write()), "oba-joint").top5_percent.to_list() == pytest.approx([99.9] * 10)
    assert summarize(collect(make_sweep(top5=False).write()), "oba-joint").top5_percent.isna().all()


def test_a_seed_without_dense_net_is_refused(two_seeds):
    with pytest.raises(FileError, match="m, seed 1: no dense net"):
        summarize(two_seeds[~((two_seeds.method == "dense") & (two_seeds.seed == 1))], "first")


def test_read_summary_gives_back_what_was_written(two_seeds, tmp_path):
    summary = summarize(two_seeds, "first")
    summary.to_csv(tmp_path / "summary.csv", index=False)
    pd.testing.assert_frame_equal(read_summary(tmp_path / "summary.csv"), summary, check_dtype=False)

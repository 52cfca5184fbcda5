"""Which nets are missing, and which jobs are to blame."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from oba.dag import STAGES
from oba.files import digest_file, read_json, write_json, write_text
from oba.gaps import find_gaps
from oba.layout import Coordinates, Layout, nets
from oba.study import dump_study, parse_study

LEVEL = Coordinates("resnet8", 0, "magnitude", "iterative", "0.60")
NEXT = replace(LEVEL, keep="0.30")


class Sweep:
    """A finished sweep, made up of empty files and true records."""

    def __init__(self, values, folder):
        self.study = parse_study(values, "study")
        self.layout = Layout(self.study.experiment, folder)
        jobs = [(stage, self.restricted(net, stage)) for stage in STAGES.values() for net in nets(self.study)]
        jobs = [(stage, at) for stage, at in jobs if at]
        for stage, at in jobs:
            for path in stage.writes(self.layout, at)[:-1]:
                write_text(path, f"made by {stage.name}")
        for stage, at in jobs:
            self.record(stage, at)

    def restricted(self, net, stage):
        axes = {axis: getattr(net, axis) for axis in stage.axes}
        wanted = stage.name != "scratch" or net.variant == "scratch"
        return Coordinates(**axes) if "" not in axes.values() and wanted else None

    def outputs(self, name, at):
        return STAGES[name].writes(self.layout, at)

    def record(self, stage, at):
        reads = [path for paths in stage.reads(self.study, self.layout, at).values() for path in paths]
        settings = stage.sections.of(self.study, at).model_dump(mode="json", by_alias=True)
        record = stage.record(self.layout, at)
        write_json(record, {"settings": settings, "inputs": {str(p): digest_file(p) for p in reads}, "key": "0"})

    def fail(self, name, at, log):
        for path in self.outputs(name, at):
            path.unlink(missing_ok=True)
        write_text(self.layout.log(STAGES[name].record(self.layout, at)), log)

    @property
    def reasons(self):
        """Why nets are missing, by level and variant."""
        return {(at.keep, at.variant): reason for at, reason in find_gaps(self.study, self.layout).reasons.items()}

    @property
    def failed(self):
        return [(job.stage, job.at, job.error) for job in find_gaps(self.study, self.layout).failed]


@pytest.fixture
def sweep(study_values, tmp_path):
    values = {k: v for k, v in study_values.items() if k != "criteria"} | {"methods": ["magnitude"]}
    return Sweep(values | {"controls": ["scratch"]}, tmp_path)


def test_a_finished_sweep_has_no_gaps(sweep):
    assert sweep.reasons == {}
    assert sweep.failed == []


def test_a_failure_is_told_by_its_last_error_and_stops_what_builds_on_it(sweep):
    sweep.fail("prune", NEXT, "Epoch 1\nerror: first\nerror: keep=0.30 cannot be reached\ntracking: later\n")
    told = "prune failed: keep=0.30 cannot be reached"
    assert sweep.reasons == {("0.30", "finetuned"): told, ("0.30", "scratch"): told}
    assert sweep.failed == [("prune", NEXT, "keep=0.30 cannot be reached")]
    [job] = find_gaps(sweep.study, sweep.layout).failed
    assert job.log == sweep.layout.root / "logs/resnet8/seed0/magnitude-iterative/keep0.30/pruned/run.log"


def test_results_of_an_earlier_run_do_not_count_once_their_chain_went_another_way(sweep):
    sweep.fail("finetune", LEVEL, "Traceback (most recent call last):\n  line\nKeyError: 'x'\n")
    why = "finetune failed: KeyError: 'x'"
    assert all(path.exists() for path in sweep.outputs("evaluate", replace(NEXT, variant="finetuned")))
    assert sweep.reasons == {
        ("0.60", "finetuned"): why,
        ("0.60", "scratch"): why,
        ("0.30", "finetuned"): f"not run: finetune (keep 0.60) failed: {why.split(': ', 1)[1]}",
        ("0.30", "scratch"): f"not run: finetune (keep 0.60) failed: {why.split(': ', 1)[1]}",
    }
    assert len(sweep.failed) == 1


def test_a_job_that_was_never_started_is_not_called_failed(sweep):
    for path in sweep.outputs("scratch", LEVEL):
        path.unlink()
    assert sweep.reasons == {("0.60", "scratch"): "scratch has not run"}
    assert sweep.failed == []


def test_a_silent_end_is_told(sweep):
    sweep.fail("scratch", LEVEL, "Epoch 1\n")
    assert sweep.reasons == {("0.60", "scratch"): "scratch failed: stopped without an error message, perhaps killed"}


def test_other_settings_make_a_net_another_one(sweep, study_values):
    sweep.study = parse_study({**dump_study(sweep.study), "methods": ["magnitude"], "finetune": {"epochs": 9}}, "study")
    assert sweep.reasons["0.60", "finetuned"] == "finetune has not run"
    assert sweep.reasons["0.30", "finetuned"] == "not run: finetune (keep 0.60) has not run"
    assert ("", "dense") not in sweep.reasons


def test_a_changed_input_counts_and_a_touched_one_does_not(sweep):
    weights = sweep.outputs("finetune", NEXT)[0]
    later = time.time() + 100
    os.utime(weights, (later, later))
    assert sweep.reasons == {}
    weights.write_text("other weights")
    os.utime(weights, (later, later))
    assert sweep.reasons == {("0.30", "finetuned"): "evaluate has not run"}


def test_without_its_dense_net_nothing_of_a_seed_counts(sweep):
    sweep.fail("evaluate_dense", Coordinates("resnet8", 0), "error: no space\n")
    assert sweep.reasons["", "dense"] == "evaluate_dense failed: no space"
    assert sweep.reasons["0.60", "finetuned"] == "not run: evaluate_dense failed: no space"
    assert len(sweep.reasons) == 5


def test_a_failed_first_job_explains_everything(sweep):
    sweep.fail("trace", Coordinates("resnet8"), "error: cannot be traced\n")
    assert {reason for (keep, _), reason in sweep.reasons.items() if keep} == {
        "not run: trace failed: cannot be traced"
    }
    assert sweep.failed == [("trace", Coordinates("resnet8"), "cannot be traced")]


def test_images_may_be_deleted_after_the_work(sweep):
    images = sweep.layout.data / "images.npy"
    assert images in sweep.outputs("prepare", Coordinates())
    images.unlink()
    assert sweep.reasons == {}


def test_records_of_another_kind_count_as_none(sweep):
    record = sweep.outputs("prune", NEXT)[-1]
    write_json(record, {k: v for k, v in read_json(record).items() if k != "inputs"})
    assert sweep.reasons["0.30", "finetuned"] == "prune has not run"


def test_a_failure_is_told_without_the_name_of_the_job_that_is_told_anyway(sweep):
    sweep.fail("evaluate_dense", Coordinates("resnet8", 0), "error: evaluate dense resnet8 seed0: no space\n")
    assert sweep.reasons["", "dense"] == "evaluate_dense failed: no space"

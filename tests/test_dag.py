"""The table of stages: what a job reads is what another one writes, and every path belongs to one job."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from oba.dag import STAGES, Stage, stage_of
from oba.layout import DENSE_LONGER, NET_FILES, TRAINED_FILES, Coordinates, Layout, nets
from oba.sections import STAGES as SECTIONS
from oba.study import parse_study

PRETRAINED = "oba.models.pretrained"
LAYOUT = Layout("tiny")
AXES = Coordinates.__dataclass_fields__


@pytest.fixture
def study(study_values):
    methods = [
        {"name": "first", "criterion": "taylor"},
        {"name": "second", "criterion": "oba", "update": "none"},
    ]
    return parse_study(
        study_values
        | {
            "models": ["resnet8", "timm/resnet10t"],
            "seeds": [0, 3],
            "methods": methods,
            "schedules": ["iterative", "oneshot"],
            "controls": ["scratch", "dense-longer"],
        },
        "study",
    )


def jobs(study, stage: Stage) -> list[Coordinates]:
    """Return the coordinates of all jobs of a stage, from the nets of the sweep."""
    found = {}
    for net in nets(study):
        for at in (net, replace(net, variant="finetuned")):
            own = Coordinates(**{axis: getattr(at, axis) for axis in stage.axes})
            if all(axis in own.given() for axis in stage.axes):
                found[own] = None
    if stage.name == "scratch":
        found = {at: None for at in found if at.method != DENSE_LONGER}
    return list(found)


def files(listed) -> list[Path]:
    return [path for paths in listed.values() for path in paths]


def test_no_two_jobs_write_one_file(study):
    written = [path for stage in STAGES.values() for at in jobs(study, stage) for path in stage.writes(LAYOUT, at)]
    assert len(written) > 300
    assert len({*written}) == len(written)


@pytest.mark.parametrize("name", STAGES)
def test_the_axes_of_a_stage_tell_its_jobs_apart_and_are_all_that_its_paths_need(study, name):
    stage = STAGES[name]
    every = jobs(study, stage)
    assert len(every) == len({stage.record(LAYOUT, at) for at in every})
    filled = Coordinates("model", 9, "method", "schedule", "0.99", "variant")
    own = Coordinates(**{axis: getattr(filled, axis) for axis in stage.axes})
    assert stage.writes(LAYOUT, filled) == stage.writes(LAYOUT, own)


@pytest.mark.parametrize("name", STAGES)
def test_patterns_of_rules_hold_the_wildcards_of_the_axes_and_no_other(name):
    stage = STAGES[name]
    pattern = Coordinates(**{axis: f"{{{axis}}}" for axis in stage.axes})
    for path in stage.writes(LAYOUT, pattern):
        assert {axis for axis in AXES if f"{{{axis}}}" in str(path)} == {*stage.axes}
        assert "None" not in str(path)
        assert "//" not in str(path)


@pytest.mark.parametrize("name", STAGES)
def test_inputs_are_what_other_stages_write(study, name):
    written = {path for stage in STAGES.values() for at in jobs(study, stage) for path in stage.writes(LAYOUT, at)}
    stage = STAGES[name]
    assert jobs(study, stage)
    for at in jobs(study, stage):
        needed = {*files(stage.reads(study, LAYOUT, at)), *files(stage.after(study, LAYOUT, at))}
        assert needed <= written
        assert not needed & {*stage.writes(LAYOUT, at)}
        assert not {*stage.reads(study, LAYOUT, at)} & {*stage.after(study, LAYOUT, at)}, "one key for each kind"


def test_a_weight_file_is_an_input_of_the_nets_that_start_from_it(study_values):
    models = ["resnet8", {"name": "timm/resnet10t", "dense": {"from": "weights.pt"}}]
    study = parse_study(study_values | {"models": models}, "study")
    reads = {at.model: STAGES["dense"].reads(study, LAYOUT, at) for at in jobs(study, STAGES["dense"])}
    assert reads["timm-resnet10t"]["weights"] == [Path("weights.pt")]
    assert "weights" not in reads["resnet8"]


def test_only_jobs_that_load_published_weights_depend_on_how_that_is_done(study_values):
    models = ["resnet8", {"name": "timm/resnet10t", "dense": {"from": "pretrained"}}]
    study = parse_study(study_values | {"models": models}, "study")
    users = {(s.name, at.model) for s in STAGES.values() for at in jobs(study, s) if PRETRAINED in s.roots(study, at)}
    assert users == {("dense", "timm-resnet10t")}


def test_no_job_needs_itself(study):
    """Each job comes after all jobs whose files it reads."""
    maker = {
        path: (stage.name, at)
        for stage in STAGES.values()
        for at in jobs(study, stage)
        for path in stage.writes(LAYOUT, at)
    }
    needs = {
        (stage.name, at): {
            maker[path]
            for path in files(stage.reads(study, LAYOUT, at)) + files(stage.after(study, LAYOUT, at))
            if path in maker
        }
        for stage in STAGES.values()
        for at in jobs(study, stage)
    }
    done = set()
    while ready := {job for job, needed in needs.items() if job not in done and needed <= done}:
        done |= ready
    assert done == needs.keys()


@pytest.mark.parametrize("name", STAGES)
def test_the_record_comes_last_and_names_the_job(study, name):
    stage = STAGES[name]
    for at in jobs(study, stage):
        record = stage.record(LAYOUT, at)
        assert record == stage.writes(LAYOUT, at)[-1]
        assert record.name.endswith("run.json")
        assert sum(path.name.endswith("run.json") for path in stage.writes(LAYOUT, at)) == 1
        assert LAYOUT.root / f"{stage.place(LAYOUT, at)}.json" == record


def test_files_of_nets_end_with_their_record():
    assert NET_FILES[-1] == TRAINED_FILES[-1] == "run.json"
    assert {*NET_FILES} < {*TRAINED_FILES}


def test_a_level_starts_from_the_one_before_or_from_the_dense_net(study):
    def start(at):
        return STAGES["prune"].reads(study, LAYOUT, at)["start"][0].parent

    first = Coordinates("resnet8", 3, "first", "iterative", "0.60")
    assert start(first) == LAYOUT.dense(first)
    assert start(replace(first, keep="0.30")) == LAYOUT.net(replace(first, variant="finetuned"))
    assert start(replace(first, keep="0.30", schedule="oneshot")) == LAYOUT.dense(first)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_has_a_module_a_slice_and_a_command(name):
    stage = STAGES[name]
    assert callable(import_module(f"oba.stages.{stage.module}").perform)
    assert stage.sections is SECTIONS[stage.module]
    assert stage_of(stage.module, Coordinates(variant="dense" if name == "evaluate_dense" else "finetuned")) is stage
    assert {stage.module for stage in STAGES.values()} == SECTIONS.keys()


def test_options_on_the_command_line_are_the_coordinates(study):
    at = Coordinates("resnet8", 0, "first", "oneshot", "0.60", "finetuned")
    full = "--model resnet8 --seed 0 --method first --schedule oneshot --keep 0.60"
    assert STAGES["prune"].options(replace(at, variant="")) == full
    assert STAGES["evaluate"].options(at) == f"{full} --variant finetuned"
    assert STAGES["prepare"].options(Coordinates()) == ""


def test_roots_are_the_modules_that_the_study_chooses(study):
    at = Coordinates("timm-resnet10t", 0, "second", "oneshot", "0.60")
    family = "oba.models.families.timm"
    assert STAGES["prepare"].roots(study, Coordinates()) == ["oba.data.sources.digits"]
    assert STAGES["split"].roots(study, Coordinates(seed=0)) == []
    assert STAGES["dense"].roots(study, at) == STAGES["finetune"].roots(study, at) == [family]
    assert STAGES["prune"].roots(study, at) == [
        "oba.importance.criteria.oba",
        "oba.pruning.allocation.global_",
        "oba.pruning.update.none",
        family,
    ]
    assert STAGES["prune"].roots(study, replace(at, method=DENSE_LONGER)) == [family]


@pytest.mark.parametrize("name", STAGES)
def test_a_method_is_seen_by_its_own_jobs_only(study, study_values, name):
    """Options of one method change the slices and the code of that method's pruning, and nothing else."""
    other = study.model_copy(
        update={"methods": [study.methods[0], study.methods[1].model_copy(update={"rounds": 9, "keep_scores": True})]}
    )
    for at in jobs(study, STAGES[name]):
        same = STAGES[name].sections.of(study, at) == STAGES[name].sections.of(other, at)
        assert same is not (name == "prune" and at.method == "second")


def test_prepare_alone_looks_at_the_source_of_the_images(study, tmp_path):
    for kind in ("cat", "dog"):
        (tmp_path / "images" / kind).mkdir(parents=True)
        (tmp_path / "images" / kind / "1.png").write_bytes(b"1")
    data = study.data.model_copy(update={"name": "imagefolder", "root": str(tmp_path / "images")})
    folder, layout = study.model_copy(update={"data": data}), Layout("tiny", tmp_path / "results")
    assert [name for name, stage in STAGES.items() if stage.sees(folder, layout)] == ["prepare"]
    assert not any(stage.sees(study, layout) for stage in STAGES.values()), "what is built in is seen as code"


def test_methods_of_weights_ask_for_no_structures_but_for_what_stays_whole(study_values):
    single = {"name": "single", "criterion": "taylor", "granularity": "weights", "allocation": "erk"}
    values = study_values | {"methods": ["taylor", single], "structures": {"ignore": ["fc"]}}
    study = parse_study(values, "study")
    level = Coordinates("resnet8", 0, "taylor", "oneshot", "0.60")
    masks, prune = replace(level, method="single"), STAGES["prune"]
    assert "structures" in prune.reads(study, LAYOUT, level)
    assert "structures" not in prune.reads(study, LAYOUT, masks)
    assert prune.sections.of(study, level).model_dump()["prunable"] is None
    assert prune.sections.of(study, masks).model_dump()["prunable"]["ignore"] == ["fc"]
    longer = replace(level, method=DENSE_LONGER)
    assert prune.sections.of(study, longer).model_dump()["prunable"] is None
    assert "oba.pruning.weights.allocation.erk" in prune.roots(study, masks)
    assert "oba.pruning.allocation.global_" in prune.roots(study, level)


def test_the_control_from_new_weights_reads_the_masks(study):
    at = jobs(study, STAGES["scratch"])[0]
    assert LAYOUT.level(at) / "pruned/model.safetensors" in STAGES["scratch"].reads(study, LAYOUT, at)["pruned"]

"""Jobs of several stages stand in the DAG with one file each, and ask for no less than their stages do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from oba.codedigest import stage_code
from oba.dag import STAGES
from oba.jobs import Jobs, Rule, rules_of
from oba.layout import DENSE_LONGER, Coordinates, Layout, nets
from oba.study import parse_study

LAYOUT = Layout("tiny")


@pytest.fixture(params=["stage", "level"])
def study(study_values, request):
    methods = [
        {"name": "first", "criterion": "taylor"},
        {"name": "second", "criterion": "oba", "update": "none", "allocation": {"name": "given", "method": "first"}},
        {"name": "single", "criterion": "lamp", "granularity": "weights"},
    ]
    values = {
        "models": ["resnet8", "timm/resnet10t"],
        "seeds": [0, 3],
        "methods": methods,
        "schedules": ["iterative", "oneshot"],
        "controls": ["scratch", "dense-longer"],
        "finetune": {"epochs": 1, "distillation": {}},
        "job_per": request.param,
    }
    return parse_study(study_values | values, "study")


@pytest.fixture
def of(study) -> Jobs:
    return Jobs(study, LAYOUT)


def places(study, rule: Rule) -> list[Coordinates]:
    """Return the coordinates of all jobs of a rule."""
    known = [
        Coordinates(**{axis: getattr(net, axis) for axis in rule.axes})
        for net in nets(study)
        if rule.name != "scratch" or net.method != DENSE_LONGER
    ]
    return list(dict.fromkeys(at for at in known if all(axis in at.given() for axis in rule.axes)))


def test_every_stage_of_every_net_is_run_by_one_job(study, of):
    run = [(s.name, own) for rule in of.rules for at in places(study, rule) for s, own in rule.each(at)]
    assert len(run) == len({*run})
    written = {path for name, at in run for path in STAGES[name].writes(LAYOUT, at)}
    assert all(LAYOUT.net(net) / "evaluation.json" in written for net in nets(study))


def test_no_two_jobs_have_an_output_in_common_and_the_record_comes_last(study, of):
    outputs = [of_rule.outputs(LAYOUT, at) for of_rule in of.rules for at in places(study, of_rule)]
    every = [path for paths in outputs for path in paths]
    assert len(every) == len({*every})
    assert all(paths[-1].name.endswith("run.json") for paths in outputs)
    if study.job_per == "level":
        together = [rule for rule in of.rules if len(rule.stages) > 1]
        assert {rule.name for rule in together} == {"dense", "level", "scratch"}
        assert all(len(rule.outputs(LAYOUT, at)) == 1 for rule in together for at in places(study, rule))


def test_whatever_a_stage_reads_is_made_by_its_own_job_or_by_one_that_its_job_waits_for(study, of):
    makers = {}
    for rule in of.rules:
        for at in places(study, rule):
            for stage, own in rule.each(at):
                makers |= dict.fromkeys(stage.writes(LAYOUT, own), (rule, at))
    for rule in of.rules:
        for at in places(study, rule):
            asked = {path for paths in of.reads(rule, at).values() for path in paths}
            awaited = [makers[path] for path in asked]
            assert (rule, at) not in awaited, "no job waits for itself"
            for stage, own in rule.each(at):
                for path in (path for paths in stage.reads(study, LAYOUT, own).values() for path in paths):
                    maker, place = makers[path]
                    assert (maker, place) in [(rule, at), *awaited]
                    assert (maker, place) == (rule, at) or maker.outputs(LAYOUT, place)[-1] in asked or path in asked


def test_settings_and_code_are_those_of_the_stages_wherever_the_job_is(study, of):
    for rule in of.rules:
        for at in places(study, rule):
            expected = {
                stage.module: stage.sections.of(study, own).model_dump(mode="json", by_alias=True)
                for stage, own in rule.each(at)
            }
            told = json.loads(of.settings(rule, at))
            assert told == (expected if len(rule.stages) > 1 else expected[rule.command])
            digests = [stage_code(stage.module, stage.roots(study, own)) for stage, own in rule.each(at)]
            assert of.code(rule, at).split() == digests


def test_files_of_other_experiments_stand_for_themselves(study_values):
    weights = "results/other/resnet8/seed0/dense/model.safetensors"
    dense = {"epochs": 0, "from": weights}
    study = parse_study(study_values | {"dense": dense, "job_per": "level"}, "study")
    [rule] = [rule for rule in rules_of(study) if rule.name == "dense"]
    assert Jobs(study, LAYOUT).reads(rule, Coordinates("resnet8", 0))["weights"] == [Path(weights)]


def test_options_and_commands_of_jobs(study):
    given = {rule.name: rule for rule in rules_of(study)}
    level = Coordinates("resnet8", 0, "first", "oneshot", "0.60")
    text = "--model resnet8 --seed 0 --method first --schedule oneshot --keep 0.60"
    if study.job_per == "level":
        assert given["level"].command == "prune+finetune+evaluate"
        assert given["level"].options(level) == text
        assert given["dense"].options(Coordinates("resnet8", 0)) == "--model resnet8 --seed 0"
    else:
        assert given["prune"].options(level) == text
        assert given["evaluate_dense"].options(Coordinates("resnet8", 0)).endswith("--variant dense")
        assert given["evaluate"].options(replace(level, variant="scratch")) == f"{text} --variant scratch"


def test_the_log_of_a_stage_is_that_of_its_job(study, of):
    at = Coordinates("resnet8", 0, "first", "iterative", "0.60")
    own = LAYOUT.root / "logs/resnet8/seed0/first-iterative/keep0.60"
    together = study.job_per == "level"
    expected = own / ("finetuned/evaluation-run.log" if together else "pruned/run.log")
    assert of.log(STAGES["prune"], at) == expected
    assert of.log(STAGES["evaluate"], replace(at, variant="scratch")) == own / "scratch/evaluation-run.log"
    assert of.log(STAGES["trace"], Coordinates("resnet8")).name == "structures-run.log"


def test_files_that_jobs_of_levels_made_are_doubted_by_jobs_of_stages(study_values, tmp_path):
    layout = Layout("tiny", tmp_path)
    stages, levels = (
        Jobs(parse_study(study_values | {"job_per": kind}, "study"), layout) for kind in ("stage", "level")
    )
    assert stages.doubtful() == levels.doubtful() == []
    stages.remember(finished=True)
    assert stages.doubtful() == levels.doubtful() == []
    levels.remember(finished=False)
    assert levels.doubtful() == []
    assert {*stages.doubtful()} == {"dense", "evaluate_dense", "prune", "finetune", "evaluate", "scratch"}
    stages.remember(finished=False)
    assert stages.doubtful(), "as long as not all of them were looked at"
    stages.remember(finished=True)
    assert stages.doubtful() == []


def test_stages_have_the_coordinates_that_they_have_as_jobs_of_their_own(study_values):
    values = study_values | {"controls": ["scratch"]}
    of = {kind: rules_of(parse_study(values | {"job_per": kind}, "study")) for kind in ("stage", "level")}
    single, joint = (
        {
            (stage.name, own)
            for rule in of[kind]
            for at in places(parse_study(values, "study"), rule)
            for stage, own in rule.each(at)
        }
        for kind in ("stage", "level")
    )
    assert single == joint

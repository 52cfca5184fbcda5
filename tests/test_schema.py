"""The schema that editors use accepts and refuses what the study does; shipped studies fit both."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from oba.errors import ConfigError
from oba.schema import study_schema
from oba.section import scientific
from oba.study import load_study, parse_study

ROOT = Path(__file__).parents[1]
SHIPPED = sorted({*ROOT.glob("config/**/*.yaml")} - {*ROOT.glob("config/paper/smoke/*")})


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_studies_are_valid(path):
    assert load_study(path).experiment


def numbers(values):
    """Read texts that write numbers, such as ``5e-4``, as the study does and YAML 1.2 would."""
    if isinstance(values, dict):
        return {key: numbers(value) for key, value in values.items()}
    if isinstance(values, list):
        return [numbers(value) for value in values]
    return scientific(values)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_studies_fit_the_schema_that_editors_use(path):
    schema = study_schema()
    checker = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in checker.iter_errors(numbers(yaml.safe_load(path.read_text())))] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("methods", ["oba", {"criterion": {"name": "magnitude", "magnitude": "l2"}, "rounds": 1}]),
        ("methods", [{"name": "x", "criterion": "oba", "allocation": {"name": "global"}, "update": "none"}]),
        ("methods", [{"criterion": "oba", "floors": {"round_to": 8}, "keep_scores": True}]),
        ("method_defaults", {"criterion": {"norm": "train"}, "allocation": "uniform", "rounds": 2}),
        ("models", ["resnet8", {"name": "resnet20", "dense": {"lr": 0.3}, "structures": {"ignore": ["a"]}}]),
    ],
)
def test_the_schema_accepts_what_a_study_may_say(study_values, key, value):
    values = study_values | {"methods": ["oba"]} | {key: value}
    assert parse_study(values, "study")
    jsonschema.validate(values, study_schema())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("methods", [{"criterion": {"name": "magnitude", "norm": "train"}}]),
        ("methods", [{"criterion": {"name": "oba-exact", "order": 0}}]),
        ("methods", [{"criterion": "ob"}]),
        ("methods", [{"criterion": "oba", "allocation": {"name": "global", "rank": "macs"}}]),
        ("methods", [{"criterion": "oba", "round": 2}]),
        ("methods", [{"name": "x"}]),
        ("method_defaults", {"update": "nrm"}),
        ("models", [{"name": "resnet8", "dense": {"epoch": 1}}]),
        ("models", [{"dense": {"epochs": 1}}]),
        ("kep", [0.5]),
    ],
)
def test_the_schema_refuses_what_a_study_may_not_say(study_values, key, value):
    values = study_values | {key: value}
    with pytest.raises(ConfigError):
        parse_study(values, "study")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, study_schema())


def test_schema_is_current_and_documents_every_key():
    schema = json.loads((ROOT / "workflow/schemas/study.schema.json").read_text())
    assert schema == study_schema(), "run `make schema`"
    entries = {f"{kind} {entry['properties']['name']['const']}": entry for kind, entry in _entries(schema)}
    assert {"criterion oba", "allocation global", "update norm"} < entries.keys()
    sections = {name: section for name, section in schema["$defs"].items() if "properties" in section}
    for name, section in ({"Study": schema} | sections | entries).items():
        for key, field in section["properties"].items():
            assert {"description", "$ref", "const"} & field.keys(), f"{name}.{key} is not documented"


def _entries(schema):
    for kind in ("criterion", "allocation", "update"):
        for entry in schema["$defs"][kind]["anyOf"]:
            if "properties" in entry:
                yield kind, entry

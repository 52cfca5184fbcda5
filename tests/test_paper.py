"""The paper's study files: they say where every value is from, agree with each other, and can be started."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from oba.config import PRESETS
from oba.dag import STAGES
from oba.layout import Coordinates
from oba.study import load_study
from oba.validate import quick_check

PAPER = Path(__file__).parents[1] / "config/paper"
ROWS = sorted(path.stem for path in PAPER.glob("*.yaml"))
SOURCES = ("[paper]", "[code]", "[DepGraph]", "[ours]")
CIFAR = ["cifar10-oneshot", "cifar10-iterative", "cifar100-oneshot", "cifar100-iterative"]
UNTAGGED = {"experiment", "name", "root", "crop", "padding", "flip", "update", "granularity", "models"}
"""Keys that need no source: names of this project's, or explained by the line before."""


def read(row: str) -> dict[str, Any]:
    return yaml.safe_load((PAPER / f"{row}.yaml").read_text())


def untold(text: str) -> list[str]:
    """Return the lines with a value whose source nobody says: neither they nor the heading they are under.

    Methods are named by the table that they are from.
    """
    found, told = [], False
    text = re.sub(r"\nmethods:\n(?:[ #].*\n)*", "\n", text)
    for line in text.splitlines():
        code, _, comment = line.partition("#")
        if not code.strip():
            told = told and bool(line.strip())
            continue
        sourced = any(source in comment for source in SOURCES)
        indent = len(code) - len(code.lstrip())
        heading = re.fullmatch(r"\s*[\w-]+:\s*", code) is not None
        if indent == 0:
            told = heading and sourced
        key = code.strip().partition(":")[0]
        if not (heading or sourced or told or key in UNTAGGED):
            found.append(line)
    return found


def test_there_is_a_study_for_every_experiment_of_the_paper():
    assert sorted([
        *CIFAR, "cifar10-disagreements", "cifar10-unstructured", "imagenet-resnet50", "imagenet-vit-b-16"
    ]) == ROWS  # fmt: skip
    listed = (PAPER / "README.md").read_text()
    assert all(f"`{row}.yaml`" in listed for row in ROWS)


@pytest.mark.parametrize("row", [row for row in ROWS if row != "cifar10-disagreements"])
def test_every_value_has_a_source(row):
    assert untold((PAPER / f"{row}.yaml").read_text()) == []


def test_a_value_without_a_source_is_found():
    assert untold("dense:\n  epochs: 3\n  lr: 1 # [code]\n") == ["  epochs: 3"]
    assert untold("dense: # [code] throughout\n  epochs: 3\n\nfinetune:\n  lr: 0.1\n") == ["  lr: 0.1"]


@pytest.mark.parametrize("row", [row for row in ROWS if row.startswith("cifar")])
def test_a_study_on_cifar_can_be_started(row):
    study = load_study(PAPER / f"{row}.yaml")
    quick_check(study)
    assert study.experiment == f"paper-{row}"


@pytest.mark.parametrize("row", [row for row in ROWS if row.startswith("imagenet")])
def test_a_study_on_imagenet_is_well_formed(row):
    study = load_study(PAPER / f"{row}.yaml")
    assert study.experiment == f"paper-{row}"
    assert (study.models[0].dense.source, study.models[0].dense.epochs) == ("pretrained", 0)
    assert study.data.image_size == 224


def test_the_studies_on_cifar_differ_only_in_what_they_are_about():
    first, *others = ({**read(row), "data": None} for row in CIFAR)
    for other in others:
        apart = {key for key in first.keys() | other.keys() if first.get(key) != other.get(key)}
        assert apart <= {"experiment", "keep", "schedules", "method_defaults"}
        assert {**other["method_defaults"], "rounds": 0} == {**first["method_defaults"], "rounds": 0}


@pytest.mark.parametrize(
    ("row", "other"),
    [
        ("cifar10-oneshot", "cifar10-iterative"),
        ("cifar10-oneshot", "cifar10-disagreements"),
        ("cifar100-oneshot", "cifar100-iterative"),
    ],
)
def test_studies_of_the_same_images_share_their_dense_nets(row, other):
    for name in ("prepare", "split", "dense"):
        at = Coordinates("vgg19", 0)
        first, second = (STAGES[name].sections.of(load_study(PAPER / f"{each}.yaml"), at) for each in (row, other))
        assert first == second, "whichever runs first trains for both"


def test_the_disagreements_are_those_of_one_method_in_the_one_shot_study():
    study, other = load_study(PAPER / "cifar10-oneshot.yaml"), load_study(PAPER / "cifar10-disagreements.yaml")
    for part in ("data", "splits", "calibration", "augment", "finetune", "evaluation", "runtime"):
        assert getattr(other, part) == getattr(study, part), part
    assert other.models[0] == next(model for model in study.models if model.name == "vgg19")
    published = next(method for method in study.methods if method.name == "oba")
    plain, *changed = other.methods
    assert plain.model_copy(update={"name": "oba"}) == published
    for method in changed:
        apart = {k for k in type(method).model_fields if getattr(method, k) != getattr(plain, k)} - {"name"}
        assert apart in ({"finetune"}, {"criterion"}), method.name


def test_the_preset_has_the_papers_settings():
    preset, paper = PRESETS["oba-cifar"], read("cifar10-oneshot")
    for section in ("calibration", "augment", "dense", "finetune"):
        for key, value in preset[section].items():
            assert float(paper[section][key]) == value if isinstance(value, float) else paper[section][key] == value
    defaults = paper["method_defaults"]
    assert {key: defaults[key] for key in preset["method_defaults"]} == preset["method_defaults"]

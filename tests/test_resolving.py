"""A study is resolved in another process, once, and to what resolving it here gives."""

from __future__ import annotations

import datetime
import subprocess
import sys

import pytest
import yaml

from oba import resolving
from oba.errors import ConfigError
from oba.resolving import resolve_study
from oba.study import dump_study, parse_study


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def alone(monkeypatch):
    """A function after which no other process may be started."""

    def refuse(*_, **__):
        raise AssertionError("another process was started")

    return lambda: monkeypatch.setattr(subprocess, "run", refuse)


def test_a_study_is_resolved_once_and_as_it_is_here(study_values, alone):
    values = study_values | {"methods": ["oba", {"name": "l", "criterion": "lamp", "granularity": "weights"}]}
    expected = dump_study(parse_study(values, "study"))
    assert dump_study(resolve_study(values, "study")) == expected
    alone()
    assert dump_study(resolve_study(values, "study")) == expected


def test_mistakes_are_told_as_they_are_here_each_time(study_values):
    values = study_values | {"methods": ["tailor"], "keep": [0.5, 0.123]}
    with pytest.raises(ConfigError) as here:
        parse_study(values, "study")
    for _ in range(2):
        with pytest.raises(ConfigError) as told:
            resolve_study(values, "study")
        assert str(told.value) == str(here.value)


def test_other_code_or_other_libraries_resolve_again(study_values, monkeypatch, alone):
    resolve_study(study_values, "study")
    monkeypatch.setattr(resolving, "_version", lambda library: f"another {library}")
    alone()
    with pytest.raises(AssertionError, match="another process"):
        resolve_study(study_values, "study")


def test_a_failing_process_is_not_taken_for_a_mistake(study_values, monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(RuntimeError, match="`oba resolve` failed"):
        resolve_study(study_values, "study")


def test_values_that_no_file_of_json_holds_are_resolved_here(study_values, alone):
    alone()
    with pytest.raises(ConfigError, match=r"^study: experiment: "):
        resolve_study(study_values | {"experiment": datetime.date(2026, 1, 1)}, "study")


def test_who_plans_a_sweep_does_not_import_torch(study_values, tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study_values))
    program = (
        "import sys, yaml; from oba.jobs import Jobs; from oba.layout import Layout; from oba.resolving import "
        "resolve_study; from oba.validate import quick_check; from oba.stages.losses import find_lost\n"
        "study = resolve_study(yaml.safe_load(open('study.yaml')), 'study'); quick_check(study)\n"
        "jobs = Jobs(study, Layout(study.experiment)); find_lost(study, Layout(study.experiment), repair=False)\n"
        "print(sorted({'torch', 'torchvision', 'timm', 'mlflow'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

from __future__ import annotations

import pytest

from oba.compare.settings import ABSENT, Difference, differences, plain, shown, study_differences
from oba.study import dump_study, parse_study


@pytest.fixture
def resolved(study_values):
    """Return a function: the resolved study with some sections replaced."""

    def make(**changes):
        return dump_study(parse_study(study_values | changes, "study"))

    return make


def told(a, b) -> dict[str, tuple[str, str]]:
    return {one.key: (shown(one.a), shown(one.b)) for one in study_differences(a, b)}


def test_order_and_defaults_that_are_written_out_do_not_matter(resolved, study_values):
    plainly = resolved()
    said = resolved(splits={"test": 0.2, "val": 0.1}, methods=[{"update": "norm", "criterion": "magnitude"}])
    assert told(plainly, dict(reversed(said.items()))) == {}


def test_what_every_method_repeats_is_told_once(resolved):
    methods = ["magnitude", "taylor"]
    a = resolved(methods=methods)
    assert told(a, resolved(methods=methods, finetune={"epochs": 5})) == {"finetune.epochs": ("1", "5")}
    shared = {"rounds": 2, "allocation": "uniform"}
    found = told(a, resolved(methods=methods, method_defaults=shared))
    assert found == {"method_defaults.rounds": ("4", "2"), "method_defaults.allocation": ("global", "uniform")}
    assert told(a, resolved(methods=methods, dense={"epochs": 9})) == {"dense.epochs": ("2", "9")}


def test_what_all_methods_change_by_themselves_is_told_once(resolved):
    a = resolved(methods=["magnitude", "taylor"])
    b = resolved(methods=[{"criterion": name, "rounds": 1} for name in ("magnitude", "taylor")])
    assert told(a, b) == {"methods.*.rounds": ("4", "1")}


def test_methods_are_compared_by_name_and_parts_as_one_value(resolved):
    a = resolved(methods=["magnitude", {"name": "v1.2", "criterion": "taylor"}])
    b = resolved(methods=[{"name": "v1.2", "criterion": {"name": "taylor"}, "allocation": "uniform"}, "random"])
    assert told(a, b) == {
        "methods.magnitude": ("magnitude × global × norm", "–"),
        "methods.v1.2.allocation": ("global (scope net)", "uniform"),
        "methods.random": ("–", "random × global × norm"),
    }


def test_one_option_of_a_part_is_told_alone():
    a, b = ({"criterion": {"name": "oba", "norm": norm}} for norm in ("eval", "train"))
    assert list(differences(a, b)) == [Difference("criterion.norm", "eval", "train")]


def test_passwords_are_never_shown():
    uri = "postgresql://me:secret@host/db"
    one = Difference("tracking.uri", uri, ABSENT)
    assert "secret" not in shown(uri) + str(one.to_json()) + str(plain({"a": [uri]}))
    assert one.to_json() == {"key": "tracking.uri", "a": "postgresql://host/db"}

from __future__ import annotations

from pathlib import Path

import pytest

from oba.errors import FileError
from oba.files import write_json
from oba.report.fields import Document


@pytest.fixture
def document(tmp_path: Path) -> Document:
    path = tmp_path / "metrics.json"
    write_json(path, {"a": {"half": 0.5, "two": 2, "none": None, "yes": True, "word": "x", "words": ["p", "q"]}})
    return Document(path)


def test_values_are_read_by_dotted_key(document):
    assert document.number("a.half") == 0.5
    assert document.number("a.two") == 2.0
    assert document.fraction("a.half") == 0.5
    assert document.optional_fraction("a.half") == 0.5
    assert document.optional_fraction("a.none") is None
    assert document.integer("a.two") == 2
    assert document.flag("a.yes") is True
    assert document.text("a.word") == "x"
    assert document.texts("a.words") == ["p", "q"]


@pytest.mark.parametrize(
    ("method", "key", "allowed"),
    [
        ("number", "a.word", "a finite number"),
        ("number", "a.yes", "a finite number"),
        ("number", "a.none", "a finite number"),
        ("fraction", "a.two", "a fraction between 0 and 1"),
        ("optional_fraction", "a.two", "a fraction between 0 and 1"),
        ("integer", "a.half", "a whole number, 0 or more"),
        ("integer", "a.yes", "a whole number, 0 or more"),
        ("flag", "a.two", "true or false"),
        ("text", "a.two", "a text"),
        ("texts", "a.word", "a list of texts"),
        ("texts", "a.two", "a list of texts"),
    ],
)
def test_wrong_kinds_name_file_key_and_what_is_allowed(document, method, key, allowed):
    with pytest.raises(FileError, match=rf"metrics\.json: {key} is .*; expected {allowed}"):
        getattr(document, method)(key)


def test_least_bounds_whole_numbers(document):
    with pytest.raises(FileError, match=r"a\.two is 2; expected a whole number, 3 or more"):
        document.integer("a.two", least=3)


@pytest.mark.parametrize("key", ["b", "a.b", "a.half.b"])
def test_missing_keys_are_named(document, key):
    with pytest.raises(FileError, match=rf"metrics\.json: {key} is missing"):
        document.number(key)


def test_not_a_number_is_refused(tmp_path):
    (tmp_path / "e.json").write_text('{"loss": NaN}')
    with pytest.raises(FileError, match="loss is nan; expected a finite number"):
        Document(tmp_path / "e.json").number("loss")


def test_long_values_are_shortened(tmp_path):
    write_json(tmp_path / "e.json", {"loss": "x" * 200})
    with pytest.raises(FileError, match=r"loss is 'x{36}\.\.\.; expected"):
        Document(tmp_path / "e.json").number("loss")


def test_missing_file(tmp_path):
    with pytest.raises(FileError, match=r"gone\.json: no such file"):
        Document(tmp_path / "gone.json")

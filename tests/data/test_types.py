"""Records survive JSON, and damaged ones are refused."""

from __future__ import annotations

import json

import pytest

import oba.data
from oba.data.types import DataInfo, Splits
from oba.errors import FileError

INFO = DataInfo("digits", ["0", "1"], (1, 8, 8), 10, 0, "0123456789abcdef", "arrays")
SPLITS = Splits(3, [0, 2], [1], [3, 4], [0.5], [0.25])


@pytest.mark.parametrize("record", [INFO, SPLITS], ids=["info", "splits"])
def test_round_trip(record: DataInfo | Splits) -> None:
    read = type(record).from_json(json.loads(json.dumps(record.to_json())))
    assert read == record


def test_missing_field_is_named_with_its_file() -> None:
    value = INFO.to_json()
    del value["digest"]
    with pytest.raises(FileError, match=r"^here/data\.json: digest: Field required; make the file again$"):
        DataInfo.from_json(value, "here/data.json")


def test_wrong_type_is_named() -> None:
    with pytest.raises(FileError, match=r"^Splits: train\.1: "):
        Splits.from_json({**SPLITS.to_json(), "train": [0, "two"]})


def test_something_else_is_refused() -> None:
    with pytest.raises(FileError, match="Splits: Splits: "):
        Splits.from_json([1, 2])


def test_public_names_are_found() -> None:
    assert oba.data.DataInfo is DataInfo
    assert {name for name in oba.data.__all__ if hasattr(oba.data, name)} == set(oba.data.__all__)


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match=r"'oba\.data' has no attribute 'nothing'"):
        _ = oba.data.nothing

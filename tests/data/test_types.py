"""Records survive JSON, and damaged ones are refused."""

from __future__ import annotations

import dataclasses
import json

import pytest

import oba.data
from oba.data.types import PARTS, DataInfo
from oba.errors import FileError

INFO = DataInfo(
    name="digits",
    classes=["0", "1"],
    input_size=(1, 8, 8),
    train_images=10,
    val_images=0,
    test_images=0,
    digest="0123456789abcdef",
    storage="arrays",
    train_sizes=[4, 6],
    val_sizes=[0, 0],
    test_sizes=[0, 0],
    files_digest="",
    crop_fraction=1.0,
    interpolation="bilinear",
)


def test_round_trip() -> None:
    assert DataInfo.from_json(json.loads(json.dumps(INFO.to_json()))) == INFO


def test_missing_field_is_named_with_its_file() -> None:
    value = INFO.to_json()
    del value["digest"]
    with pytest.raises(FileError, match=r"^here/data\.json: digest: Field required; make the file again$"):
        DataInfo.from_json(value, "here/data.json")


def test_wrong_type_is_named() -> None:
    with pytest.raises(FileError, match=r"^DataInfo: train_sizes\.1: "):
        DataInfo.from_json({**INFO.to_json(), "train_sizes": [0, "two"]})


def test_something_else_is_refused() -> None:
    with pytest.raises(FileError, match="DataInfo: DataInfo: "):
        DataInfo.from_json([1, 2])


def test_public_names_are_found() -> None:
    assert oba.data.DataInfo is DataInfo
    assert {name for name in oba.data.__all__ if hasattr(oba.data, name)} == set(oba.data.__all__)


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match=r"'oba\.data' has no attribute 'nothing'"):
        _ = oba.data.nothing


def test_own_parts_follow_each_other() -> None:
    info = dataclasses.replace(INFO, train_images=5, val_images=2, test_images=3)
    assert [info.own(part) for part in PARTS] == [range(5), range(5, 7), range(7, 10)]
    assert info.images == 10
    assert [len(INFO.own(part)) for part in PARTS] == [10, 0, 0]

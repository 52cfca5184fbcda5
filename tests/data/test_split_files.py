"""Splits on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oba.data.split_files import parts_file, read_splits, write_splits
from oba.data.types import Splits
from oba.errors import FileError
from oba.files import read_json, write_json

SPLITS = Splits(3, np.array([0, 1, 0, 2, 2], dtype=np.uint8), [0.5], [0.25], "da1a")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the JSON file of :data:`SPLITS`."""
    write_splits(tmp_path / "split.json", SPLITS)
    return tmp_path / "split.json"


def test_round_trip(path: Path) -> None:
    found = read_splits(path)
    assert (found.seed, found.mean, found.std, found.data) == (3, [0.5], [0.25], "da1a")
    assert found.train.tolist() == [0, 2]
    assert found.val.tolist() == [1]
    assert found.test.tolist() == [3, 4]
    assert {part.dtype for part in (found.train, found.val, found.test)} == {np.dtype(np.int64)}
    assert read_json(path)["sizes"] == {"train": 2, "val": 1, "test": 2}


def test_the_same_splits_are_the_same_bytes(path: Path, tmp_path: Path) -> None:
    write_splits(tmp_path / "again.json", SPLITS)
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert (tmp_path / "again.npy").read_bytes() == parts_file(path).read_bytes()


def test_missing_file(path: Path) -> None:
    parts_file(path).unlink()
    with pytest.raises(FileError, match=r"split\.npy: no such file; make it again"):
        read_splits(path)
    path.unlink()
    with pytest.raises(FileError, match=r"split\.json: no such file"):
        read_splits(path)


def test_missing_field(path: Path) -> None:
    write_json(path, {**read_json(path), "mean": None})
    with pytest.raises(FileError, match=r"split\.json: mean is None; expected a valid list"):
        read_splits(path)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([0, 1, 0, 2], r"split\.npy: uint8 \(4,\), but split\.json says uint8 \(5,\); make it again"),
        ([0, 1, 0, 1, 2], r"split\.npy: the parts do not have the sizes that split\.json says; split again"),
        ([0, 1, 0, 2, 3], r"split\.npy: the parts do not have the sizes that split\.json says; split again"),
    ],
)
def test_files_that_do_not_belong_together(path: Path, parts: list[int], message: str) -> None:
    np.save(parts_file(path), np.array(parts, dtype=np.uint8))
    with pytest.raises(FileError, match=message):
        read_splits(path)


def test_an_image_that_was_moved_to_another_part_is_noticed(path: Path) -> None:
    parts = SPLITS.parts.copy()
    parts[[0, 3]] = parts[[3, 0]]  # a training image becomes a test image; the sizes stay
    np.save(parts_file(path), parts)
    message = r"split\.json: it, or split\.npy beside it, is not what was drawn; split again$"
    with pytest.raises(FileError, match=message):
        read_splits(path)


@pytest.mark.parametrize("change", [{"seed": 4}, {"mean": [0.25]}, {"std": [0.5]}, {"data": "0ther"}, {"digest": ""}])
def test_every_value_is_part_of_the_digest(path: Path, change: dict[str, object]) -> None:
    write_json(path, {**read_json(path), **change})
    with pytest.raises(FileError, match=r"is not what was drawn; split again$"):
        read_splits(path)

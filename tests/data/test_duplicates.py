"""Identical images in two parts: counted, named, refused on request."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from oba.data.duplicates import Duplicates, find_duplicates
from oba.data.prepare import prepare
from oba.data.store import Prepared, open_prepared
from oba.datasets import DataConfig
from oba.errors import DataError

Open = Callable[[Path], Prepared]


@pytest.fixture(params=[12, 80], ids=["arrays", "files"])
def root(request: pytest.FixtureRequest, make_folder: Callable[..., Path]) -> Path:
    """Return a folder of nine images that all differ, small or large."""
    counts = {"train/a": 3, "train/b": 3, "test/a": 2, "test/b": 1}
    return make_folder(counts, size=(request.param,) * 2)


@pytest.fixture
def find(root: Path, tmp_path: Path) -> Callable[..., Duplicates]:
    """Return a function that looks for duplicates in the folder as it is then."""

    def find(rule: Literal["warn", "error"] = "warn", parts: Mapping[str, Sequence[int]] | None = None) -> Duplicates:
        prepare(DataConfig(name="imagefolder", root=str(root)), tmp_path / "out")
        own = {"train": range(6), "test": range(6, 9)}
        return find_duplicates(open_prepared(tmp_path / "out"), parts or own, rule)

    return find


def test_none(find: Callable[..., Duplicates]) -> None:
    assert find("error") == Duplicates({"test in train": 0}, [])


def test_test_images_that_train_are_counted_and_named(root: Path, find: Callable[..., Duplicates]) -> None:
    shutil.copy(root / "train/b/002.png", root / "test/a/001.png")
    shutil.copy(root / "train/b/002.png", root / "train/a/002.png")  # twice in train is still one test image
    shutil.copy(root / "train/a/000.png", root / "test/b/000.png")
    assert find() == Duplicates(
        {"test in train": 2},
        [
            "test/a/001.png in test = train/a/002.png in train",
            "test/b/000.png in test = train/a/000.png in train",
        ],
    )


def test_every_pair_of_parts_is_compared(root: Path, find: Callable[..., Duplicates]) -> None:
    shutil.copy(root / "train/a/000.png", root / "train/a/001.png")
    shutil.copy(root / "train/a/000.png", root / "train/a/002.png")
    shutil.copy(root / "train/b/000.png", root / "test/a/000.png")
    found = find(parts={"train": [0, 4], "val": [1, 3, 5], "test": [2, 6, 7, 8]})
    assert found.counts == {"val in train": 1, "test in train": 1, "test in val": 2}
    assert found.examples[-1] == "test/a/000.png in test = train/b/000.png in val"


def test_duplicates_are_an_error_on_request(root: Path, find: Callable[..., Duplicates]) -> None:
    shutil.copy(root / "train/b/002.png", root / "test/a/001.png")
    message = (
        r"^data\.duplicates: identical images \(1 test in train\): test/a/001\.png in test = train/b/002\.png in "
        r"train; remove them, or allow them with `duplicates: warn`$"
    )
    with pytest.raises(DataError, match=message):
        find("error")


def test_ten_are_named(tmp_path: Path) -> None:
    picture = Image.fromarray(np.zeros((8, 8), dtype=np.uint8))
    for folder in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(7):
            picture.save(tmp_path / folder / f"{number}.png")
    prepare(DataConfig(name="imagefolder", root=str(tmp_path)), tmp_path / "out")
    found = find_duplicates(open_prepared(tmp_path / "out"), {"train": range(14), "test": range(14, 28)}, "warn")
    assert found.counts == {"test in train": 14}
    assert len(found.examples) == 10
    assert found.examples[0] == "test/a/0.png in test = train/a/0.png in train"


def test_same_pixels_in_other_files_are_duplicates_where_images_are_decoded(
    root: Path, find: Callable[..., Duplicates]
) -> None:
    picture = Image.open(root / "train/a/000.png")
    picture.save(root / "test/a/000.png", compress_level=0)
    assert find().counts == {"test in train": 1 if picture.width == 12 else 0}


def test_images_without_files_are_named_by_number(digits: Path) -> None:
    prepared = open_prepared(digits)
    found = find_duplicates(prepared, {"train": range(1797), "test": [5]}, "warn")
    assert found == Duplicates({"test in train": 1}, ["image 5 in test = image 5 in train"])


def test_no_digit_is_there_twice(digits: Path) -> None:
    assert len(np.unique(np.load(digits / "images.npy"), axis=0)) == 1797

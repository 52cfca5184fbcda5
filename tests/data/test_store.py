"""A prepared folder that does not hold together is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oba.data.images import fit, to_array
from oba.data.prepare import prepare
from oba.data.store import FileList, open_prepared, usable_cpus
from oba.data.types import PREPARED_FILES
from oba.errors import DataError, FileError
from oba.files import read_json, write_json
from oba.recipes import DataConfig


@pytest.fixture
def arrays(digits: Path, tmp_path: Path) -> Path:
    """Return a copy of the prepared digits that may be damaged."""
    return shutil.copytree(digits, tmp_path / "arrays")


@pytest.fixture
def files(make_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """Return a folder prepared from four images of 80 pixels, which lie in ``images``."""
    root = make_folder({"a": 2, "b": 2}, size=(80, 80))
    prepare(DataConfig(name="imagefolder", root=str(root)), tmp_path / "out")
    return tmp_path / "out"


def the_files(directory: Path) -> FileList:
    files = open_prepared(directory).files
    assert files is not None
    return files


def test_arrays_open(arrays: Path) -> None:
    prepared = open_prepared(arrays)
    assert prepared.files is None
    assert prepared.images is not None
    assert prepared.images.shape == (1797, 8, 8, 1)
    assert prepared.labels.shape == (1797,)


@pytest.mark.parametrize("storage", ["arrays", "files"])
@pytest.mark.parametrize("name", PREPARED_FILES)
def test_missing_file(storage: str, name: str, request: pytest.FixtureRequest) -> None:
    directory: Path = request.getfixturevalue(storage)
    (directory / name).unlink()
    with pytest.raises(FileError, match=rf"{name}: no such file"):
        open_prepared(directory)


@pytest.mark.parametrize("content", [b"", b"no array", None])
def test_damaged_array(arrays: Path, content: bytes | None) -> None:
    path = arrays / "images.npy"
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(FileError, match=r"images\.npy: not a readable array"):
        open_prepared(arrays)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("labels.npy", lambda array: array[1:]),
        ("labels.npy", lambda array: array.astype(np.int32)),
        ("images.npy", lambda array: array[..., 0]),
        ("images.npy", lambda array: array.astype(np.float32)),
    ],
)
def test_wrong_shape_or_type(arrays: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(arrays / name, change(np.load(arrays / name)))
    with pytest.raises(FileError, match=rf"{name}: \w+ \(.*\), but data\.json says \w+ \(1797.*; prepare again"):
        open_prepared(arrays)


@pytest.mark.parametrize("name", ["labels.npy", "images.npy"])
def test_changed_content(arrays: Path, name: str) -> None:
    array = np.load(arrays / name)
    array[5] = 9 - array[5]
    np.save(arrays / name, array)
    with pytest.raises(FileError, match=r"the content's digest is .*, but data\.json says .*; prepare again"):
        open_prepared(arrays)


def test_images_are_read_as_they_were_prepared(files: Path, tmp_path: Path) -> None:
    listed = the_files(files)
    assert to_array(fit(listed.read(3, 1), 80, 80)).shape == (80, 80, 1)
    assert to_array(listed.read(0, 3)).shape == (80, 80, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: {"root": value["root"]}, "not a list of image files"),
        (lambda value: [], "not a list of image files"),
        (lambda value: None, r"files\.json: lists no image files, but data\.json says files; prepare again"),
        (lambda value: {**value, "sizes": value["sizes"][1:]}, r"4 files, but data\.json says 4"),
        (lambda value: {**value, "files": value["files"][:2]}, r"2 files, but data\.json says 4"),
        (lambda value: {**value, "digests": ["0"] * 4}, "the content's digest is"),
    ],
)
def test_changed_list(files: Path, change: Callable[[Any], Any], message: str) -> None:
    write_json(files / "files.json", change(read_json(files / "files.json")))
    with pytest.raises(FileError, match=message):
        open_prepared(files)


def test_image_gone(files: Path, tmp_path: Path) -> None:
    listed = the_files(files)
    (tmp_path / "images/b/001.png").unlink()
    with pytest.raises(DataError, match=r"/b/001\.png: No such file or directory; it was there when"):
        listed.read(3, 3)


def test_image_replaced(files: Path, tmp_path: Path) -> None:
    listed = the_files(files)
    (tmp_path / "images/b/001.png").write_bytes(b"other")
    with pytest.raises(DataError, match=r"/b/001\.png: 5 bytes, but \d+ when the data set was prepared"):
        listed.read(3, 3)


def test_image_damaged_without_changing_its_length(files: Path, tmp_path: Path) -> None:
    listed = the_files(files)
    path = tmp_path / "images/b/001.png"
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(DataError, match=r"/b/001\.png: not an image"):
        listed.read(3, 3)


def test_cpus() -> None:
    assert usable_cpus() >= 1

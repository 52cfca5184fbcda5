"""A prepared folder that does not hold together is refused."""

from __future__ import annotations

import dataclasses
import mmap
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from oba.data.images import fit, to_array
from oba.data.prepare import prepare
from oba.data.store import FileList, digest_of, open_prepared, usable_cpus
from oba.data.types import PREPARED_FILES
from oba.datasets import DataConfig
from oba.errors import DataError, FileError
from oba.files import write_json


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
    with pytest.raises(FileError, match=rf"{name}: \w+ \(.*\), but data\.json says \w+ \(1797.*; make it again"):
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
    ("name", "change", "message"),
    [
        ("files.npy", lambda rows: rows[1:], r"files\.npy: .* \(3,\), but data\.json says .* \(4,\); make it again"),
        ("files.npy", lambda rows: rows["size"], r"files\.npy: int64 \(4,\), but data\.json says"),
        ("names.npy", lambda text: text[None], r"names\.npy: uint8 \(1, 36\), but data\.json says uint8 \(-1,\)"),
        ("names.npy", lambda text: text[:-1], r"root\.json, names\.npy and files\.npy do not belong together; prepare"),
    ],
)
def test_changed_list(files: Path, name: str, change: Callable[[np.ndarray], np.ndarray], message: str) -> None:
    np.save(files / name, change(np.load(files / name)))
    with pytest.raises(FileError, match=message):
        open_prepared(files)


@pytest.mark.parametrize("root", [None, ["images"]])
def test_lost_root(files: Path, root: object) -> None:
    write_json(files / "root.json", root)
    with pytest.raises(FileError, match=r"root\.json, names\.npy and files\.npy do not belong together; prepare again"):
        open_prepared(files)


@pytest.mark.parametrize("field", ["digest", "size", "end"])
def test_other_contents_of_the_list_are_seen_by_a_whole_check(files: Path, field: str) -> None:
    rows = np.load(files / "files.npy")
    rows[field][0] += 1
    np.save(files / "files.npy", rows)
    open_prepared(files)
    with pytest.raises(FileError, match=r"files\.npy: not the list of image files that data\.json was written for"):
        open_prepared(files, whole=True)


def test_no_list_is_read_into_memory(files: Path) -> None:
    listed = the_files(files)
    assert [listed.names[index] for index in range(len(listed))] == ["a/000.png", "a/001.png", "b/000.png", "b/001.png"]
    for array in (listed.names.text, listed.names.ends, listed.sizes, listed.digests):
        while not isinstance(array.base, mmap.mmap):
            assert isinstance(array.base, np.ndarray)
            array = array.base


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


def test_image_changed_without_changing_its_length(files: Path, tmp_path: Path) -> None:
    listed = the_files(files)
    path = tmp_path / "images/b/001.png"
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(DataError, match=r"/b/001\.png: its content is not what it was when the data set was prepared"):
        listed.read(3, 3)


def test_image_that_no_longer_decodes(files: Path, tmp_path: Path) -> None:
    listed = the_files(files)
    path = tmp_path / "images/b/001.png"
    path.write_bytes(b"\0" * path.stat().st_size)
    digests = listed.digests.copy()
    digests[3] = np.frombuffer(digest_of(path.read_bytes()), dtype=np.uint8)
    with pytest.raises(DataError, match=r"/b/001\.png: not an image"):
        dataclasses.replace(listed, digests=digests).read(3, 3)


def test_cpus() -> None:
    assert usable_cpus() >= 1

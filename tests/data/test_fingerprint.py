"""A source's fingerprint sees every change of content, and reads only what may have been changed."""

from __future__ import annotations

import os
import shutil
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from oba import registry
from oba.data import fingerprint as module
from oba.data.fingerprint import fingerprint
from oba.data.prepare import prepare
from oba.data.types import ArraySource, ImageArrays
from oba.datasets import DataConfig
from oba.errors import DataError

Look = Callable[[], str]


@pytest.fixture
def root(make_folder: Callable[..., Path]) -> Path:
    """Return five images that were last changed in 2001."""
    root = make_folder({"train/a b": 1, "train/a": 2, "test/a": 1, "test/a b": 1})
    settle(root)
    return root


def settle(root: Path, year: int = 2001) -> None:
    """Set the times of all files to a year, so that none counts as still being written."""
    for path in root.rglob("*.png"):
        touch(path, year)


def touch(path: Path, year: int = 2005) -> None:
    seconds = 1_000_000_000 + (year - 2001) * 31_556_952
    os.utime(path, (seconds, seconds))


@pytest.fixture
def look(root: Path, tmp_path: Path) -> Look:
    """Return a function that takes the fingerprint of :func:`root`, with a cache."""
    return lambda: fingerprint(DataConfig(name="imagefolder", root=str(root)), tmp_path / "cache/source.npz")


@pytest.fixture
def prepared(root: Path, tmp_path: Path, look: Look) -> Callable[[], str]:
    """Return a function that prepares the images under their fingerprint of the moment, and returns that."""

    def prepared() -> str:
        seen = look()
        config = DataConfig(name="imagefolder", root=str(root), image_size=12)
        prepare(config, tmp_path / "out", cache=tmp_path / "cache/source.npz", seen=seen)
        return seen

    return prepared


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that collects which files are read."""
    names: list[str] = []
    digest = module._digest

    def noted(path: str) -> bytes:
        names.append(Path(path).name)
        return digest(path)

    monkeypatch.setattr(module, "_digest", noted)
    return names


def test_nothing_is_read_before_it_is_prepared(look: Look, read: list[str], root: Path) -> None:
    first = look()
    assert len(first) == 16
    assert look() == first
    touch(root / "train/a/001.png")
    assert look() != first
    assert read == []


def test_what_was_prepared_keeps_its_fingerprint_and_is_not_read_again(
    look: Look, prepared: Look, read: list[str]
) -> None:
    first = prepared()
    assert look() == first
    assert read == []


def test_an_edit_that_keeps_the_size_is_seen(root: Path, look: Look, prepared: Look, read: list[str]) -> None:
    first = prepared()
    path = root / "train/a/001.png"
    path.write_bytes(b"x" * path.stat().st_size)
    changed = look()
    assert changed != first
    assert look() == changed
    assert read == ["001.png", "001.png"]


def test_an_edit_that_is_taken_back_is_no_change(root: Path, look: Look, prepared: Look) -> None:
    first = prepared()
    path = root / "train/a/001.png"
    content = path.read_bytes()
    path.write_bytes(b"x" * len(content))
    assert look() != first
    path.write_bytes(content)
    assert look() == first


def test_two_edits_have_two_fingerprints(root: Path, look: Look, prepared: Look) -> None:
    first = prepared()
    path = root / "train/a/001.png"
    found = set()
    for letter in (b"x", b"y"):
        path.write_bytes(letter * path.stat().st_size)
        touch(path)
        found.add(look())
    assert len({first, *found}) == 3


def test_two_edits_within_one_tick_of_the_clock_are_seen(
    root: Path, look: Look, prepared: Look, tmp_path: Path
) -> None:
    path = root / "train/a/001.png"
    shutil.copy(root / "train/a/000.png", path)  # now, as far as the clock can tell
    status = path.stat()
    first = prepared()
    path.write_bytes(b"x" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert look() != first


def test_a_file_just_written_is_read_once_more_and_then_settled(
    root: Path, look: Look, prepared: Look, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(root / "train/a/000.png", root / "train/a/001.png")
    first = prepared()
    monkeypatch.setattr(module, "_UNSETTLED", 0)
    assert [look(), look()] == [first, first]
    assert read == ["001.png"]


@pytest.mark.parametrize("change", ["add", "remove", "rename", "move", "grow"])
def test_other_changes_are_seen_without_reading(
    root: Path, look: Look, prepared: Look, read: list[str], change: str
) -> None:
    first = prepared()
    path = root / "train/a/001.png"
    match change:
        case "add":
            shutil.copy2(path, root / "train/a/002.png")
        case "remove":
            path.unlink()
        case "rename":
            path.rename(root / "train/a/003.png")
        case "move":
            path.rename(root / "train/a b/003.png")
        case "grow":
            path.write_bytes(path.read_bytes() + b"x")
    changed = look()
    assert changed != first
    assert look() == changed
    assert read == []


def test_new_times_change_nothing(root: Path, look: Look, prepared: Look, read: list[str]) -> None:
    first = prepared()
    touch(root / "test/a/000.png")
    assert look() == first
    assert read == ["000.png"]
    assert look() == first
    assert read == ["000.png"]


def test_a_change_beside_a_touch(root: Path, look: Look, prepared: Look) -> None:
    prepared()
    path = root / "train/a/001.png"
    size = path.stat().st_size
    shutil.copy(root / "train/a/000.png", path)
    assert path.stat().st_size == size, "noise takes as many bytes, whatever it is"
    touch(path)
    touch(root / "test/a/000.png")
    assert look() == look() == prepared() == look()


def test_another_folder_is_another_data_set_until_it_is_prepared(
    root: Path, look: Look, prepared: Look, tmp_path: Path, read: list[str]
) -> None:
    prepared()
    copy = shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    settle(copy, 2010)
    config = DataConfig(name="imagefolder", root=str(copy))
    assert fingerprint(config, tmp_path / "cache/source.npz") != look()
    assert read == []


def test_labels_count(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    root = make_folder({"train/a": 1, "train/b": 1, "val": 2})
    settle(root)
    config, found = DataConfig(name="imagefolder", root=str(root)), set()
    for classes in ("aa", "bb"):  # the order of files stays the same
        (root / "val_labels.txt").write_text("".join(f"00{n}.png {label}\n" for n, label in enumerate(classes)))
        found.add(fingerprint(config, tmp_path / "cache"))
    assert len(found) == 2


def test_what_is_no_image_of_the_data_set_does_not_count(root: Path, look: Look) -> None:
    first = look()
    (root / "train/a/notes.txt").write_text("no image")
    (root / "train/a/.hidden.png").write_text("no image")
    assert look() == first


@pytest.mark.parametrize("content", [None, b"", b"nonsense", b"PK\x05\x06" + bytes(18)])
def test_the_cache_may_be_lost_or_damaged(look: Look, prepared: Look, tmp_path: Path, content: bytes | None) -> None:
    first = prepared()
    cache = tmp_path / "cache/source.npz"
    if content is None:
        cache.unlink()
    else:
        cache.write_bytes(content)
    assert look() == first


def test_a_cut_cache_is_a_lost_one(look: Look, prepared: Look, tmp_path: Path) -> None:
    first = prepared()
    cache = tmp_path / "cache/source.npz"
    cache.write_bytes(cache.read_bytes()[:-200])
    assert look() == first


def test_a_cache_that_cannot_be_written_stops_nothing(look: Look, prepared: Look, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert prepared() == look()


def test_unreadable_files_are_left_to_prepare(root: Path, look: Look, prepared: Look) -> None:
    first = prepared()
    path = root / "train/a/001.png"
    content = path.read_bytes()
    path.unlink()
    path.symlink_to("nowhere.png")
    broken = look()
    assert broken != first
    assert look() == broken
    path.unlink()
    path.write_bytes(content)
    assert look() == first


def test_sources_without_files_have_none(tmp_path: Path) -> None:
    for name in ("digits", "cifar10", "cifar100"):
        assert fingerprint(DataConfig(name=name), tmp_path / "cache") == ""
    prepare(DataConfig(name="digits"), tmp_path / "out", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("fresh", [False, True])
def test_files_of_a_source_of_arrays_count(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    arrays = registry.load("data set", "digits").open_source(DataConfig(name="digits")).read

    def open_source(_config: DataConfig) -> ArraySource:
        def read() -> ImageArrays:
            return arrays()

        return ArraySource(read, [3, 3], 0, (1, 8, 8), root=tmp_path, files=["all.npz"])

    monkeypatch.setattr(registry, "load", lambda *_: types.SimpleNamespace(open_source=open_source))
    path, cache, config = tmp_path / "all.npz", tmp_path / "cache", DataConfig(name="other")
    path.write_bytes(b"one")
    if not fresh:
        touch(path, 2001)
    first = fingerprint(config, cache)
    prepare(config, tmp_path / "out", cache=cache, seen=first)
    # Of a file written that moment nobody knows whether the source has read it before or after.
    assert (fingerprint(config, cache) == first) == (not fresh)
    touch(path)
    assert (fingerprint(config, cache) == first) == (not fresh)
    path.write_bytes(b"two")
    assert fingerprint(config, cache) != first


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere is not a folder$"):
        fingerprint(DataConfig(name="imagefolder", root=str(tmp_path / "nowhere")), tmp_path / "cache")

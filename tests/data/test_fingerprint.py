"""A source's fingerprint sees every change of content, and reads only what was touched."""

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
from oba.data.store import open_prepared
from oba.data.types import ArraySource
from oba.errors import DataError
from oba.recipes import DataConfig

Look = Callable[[], str]


@pytest.fixture
def root(make_folder: Callable[..., Path]) -> Path:
    """Return five images that were last changed in 2001."""
    root = make_folder({"train/a b": 1, "train/a": 2, "test/a": 1, "test/a b": 1})
    settle(root)
    return root


def settle(root: Path) -> None:
    """Set the times of all files to 2001, so that none counts as still being written."""
    for path in root.rglob("*.png"):
        os.utime(path, (1_000_000_000, 1_000_000_000))


@pytest.fixture
def look(root: Path, tmp_path: Path) -> Look:
    """Return a function that takes the fingerprint of :func:`root`, with a cache."""
    return lambda: fingerprint(DataConfig(name="imagefolder", root=str(root)), tmp_path / "cache/source.jsonl")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that collects which files are read."""
    names: list[str] = []
    digest = module._digest

    def noted(path: str) -> str:
        names.append(Path(path).name)
        return digest(path)

    monkeypatch.setattr(module, "_digest", noted)
    return names


def test_contents_are_read_once(look: Look, read: list[str]) -> None:
    first = look()
    assert len(first) == 16
    assert len(read) == 5
    assert look() == first
    assert len(read) == 5


def test_an_edit_that_keeps_the_size_is_seen(root: Path, look: Look, read: list[str]) -> None:
    first = look()
    path = root / "train/a/001.png"
    path.write_bytes(b"x" * path.stat().st_size)
    read.clear()
    assert look() != first
    assert read == ["001.png"]


def test_two_edits_within_one_tick_of_the_clock_are_seen(root: Path, look: Look) -> None:
    path = root / "train/a/001.png"
    path.write_bytes(b"one")
    status = path.stat()
    first = look()
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert look() != first


@pytest.mark.parametrize("change", ["add", "remove", "rename", "move"])
def test_other_changes_are_seen(root: Path, look: Look, read: list[str], change: str) -> None:
    first = look()
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
    read.clear()
    changed = look()
    assert changed != first
    assert len(read) == (0 if change == "remove" else 1)
    assert look() == changed
    assert len(read) == (0 if change == "remove" else 1)


def test_new_times_change_nothing(root: Path, look: Look, read: list[str]) -> None:
    first = look()
    os.utime(root / "test/a/000.png", (1_100_000_000, 1_100_000_000))
    read.clear()
    assert look() == first
    assert read == ["000.png"]
    assert look() == first
    assert read == ["000.png"]


def test_a_copy_elsewhere_changes_nothing(root: Path, look: Look, tmp_path: Path, read: list[str]) -> None:
    first = look()
    copy = shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    settle(copy)
    read.clear()
    data = DataConfig(name="imagefolder", root=str(copy))
    assert fingerprint(data, tmp_path / "cache/source.jsonl") == first
    assert len(read) == 5  # times of another folder say nothing about this one


def test_what_is_no_image_of_the_data_set_does_not_count(root: Path, look: Look) -> None:
    first = look()
    (root / "train/a/notes.txt").write_text("no image")
    (root / "train/a/.hidden.png").write_text("no image")
    assert look() == first


@pytest.mark.parametrize("content", [None, b"", b"[1]\n", b"{}\nnonsense\n", b"\xff"])
def test_the_cache_may_be_lost_or_damaged(look: Look, tmp_path: Path, content: bytes | None) -> None:
    first = look()
    cache = tmp_path / "cache/source.jsonl"
    if content is None:
        cache.unlink()
    else:
        cache.write_bytes(content)
    assert look() == first


def test_a_cut_cache_is_used_as_far_as_it_goes(look: Look, tmp_path: Path, root: Path, read: list[str]) -> None:
    look()
    cache = tmp_path / "cache/source.jsonl"
    cache.write_text("\n".join(cache.read_text().splitlines()[:3]) + '\n["train/a')
    os.utime(root / "test/a/000.png", (1_100_000_000, 1_100_000_000))
    read.clear()
    look()
    assert len(read) == 4


def test_a_cache_that_cannot_be_written_stops_nothing(root: Path, look: Look, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    data = DataConfig(name="imagefolder", root=str(root))
    first = look()
    assert fingerprint(data, tmp_path / "elsewhere") == first


def test_unreadable_files_are_left_to_prepare(root: Path, look: Look, read: list[str]) -> None:
    path = root / "train/a/001.png"
    content = path.read_bytes()
    path.unlink()
    path.symlink_to("nowhere.png")
    broken = look()
    assert look() == broken
    path.unlink()
    path.write_bytes(content)
    mended = look()
    assert mended != broken


def test_digests_are_those_of_prepare(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    root = make_folder({"a": 2, "b": 2}, size=(80, 80), name="large")
    data = DataConfig(name="imagefolder", root=str(root))
    fingerprint(data, tmp_path / "cache")
    prepare(data, tmp_path / "out")
    files = open_prepared(tmp_path / "out").files
    assert files is not None
    remembered = [line.split('"')[-2] for line in (tmp_path / "cache").read_text().splitlines()[1:]]
    assert remembered == files.digests


def test_sources_without_files_have_none(tmp_path: Path) -> None:
    for name in ("digits", "cifar10", "cifar100"):
        assert fingerprint(DataConfig(name=name), tmp_path / "cache") == ""
    assert not (tmp_path / "cache").exists()


def test_files_of_a_source_of_arrays_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_source(_config: DataConfig) -> ArraySource:
        return ArraySource(lambda: pytest.fail("read"), [3, 3], 0, (1, 8, 8), root=tmp_path, files=["all.npz"])

    monkeypatch.setattr(registry, "load", lambda *_: types.SimpleNamespace(open_source=open_source))
    (tmp_path / "all.npz").write_bytes(b"one")
    first = fingerprint(DataConfig(name="other"), tmp_path / "cache")
    (tmp_path / "all.npz").write_bytes(b"two")
    assert fingerprint(DataConfig(name="other"), tmp_path / "cache") != first


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere is not a folder$"):
        fingerprint(DataConfig(name="imagefolder", root=str(tmp_path / "nowhere")), tmp_path / "cache")

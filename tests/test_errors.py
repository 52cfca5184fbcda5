"""Errors of the disk become one line that says which file, and what to do."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from oba.errors import DataError, FileError, StoppedError, explain_oserror
from oba.files import write_atomic, write_json, write_tensors, write_text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def save_array(path: Path) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.save(stream, np.zeros(100_000))

    write_atomic(path, write)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_text(path, "x" * 1_000_000),
        lambda path: write_tensors(path, {"weight": torch.zeros(100_000)}),
        save_array,
    ],
    ids=["text", "safetensors", "numpy"],
)
def test_a_full_disk_names_the_file_and_leaves_the_old_one(small_disk, write):
    path = small_disk / "model.safetensors"
    write_text(path, "old")
    with pytest.raises(FileError) as caught:
        write(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: no space left on device; free some space")
    assert "\n" not in message
    assert caught.value.exit_code == 9
    assert path.read_text() == "old"
    assert [p.name for p in small_disk.iterdir()] == [path.name]


def test_a_read_only_file_system_is_named(small_disk):
    write_text(small_disk / "a.json", "{}")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for path in (small_disk / "a.json", small_disk / "b.json"):
        with pytest.raises(FileError, match=f"^{path}: read-only file system; choose a folder that can be written"):
            write_json(path, {})
    with pytest.raises(FileError, match=f"^{small_disk / 'new'}: read-only file system"):
        write_json(small_disk / "new" / "c.json", {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else_is_named(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(FileError, match=f"^{tmp_path / 'a.json'}: permission denied; give the user"):
        write_json(tmp_path / "a.json", {})


def test_a_source_that_cannot_be_read_is_not_blamed_on_the_target(tmp_path):
    def write(temporary: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/source")

    with pytest.raises(FileError, match=r"^/elsewhere/source: permission denied"):
        write_atomic(tmp_path / "target", write)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "no space left on device; free some space and run again"),
        (errno.EDQUOT, "disk quota exceeded; free some space or raise the quota"),
        (errno.EROFS, "read-only file system; choose a folder"),
        (errno.EACCES, "permission denied; give the user who runs this"),
        (errno.EPERM, "operation not permitted; give the user who runs this"),
        (errno.EIO, "input/output error; the disk or its network connection is failing"),
    ],
)
def test_each_kind_says_what_to_do(code, words):
    explained = explain_oserror(OSError(code, os.strerror(code), "results/x"))
    assert explained is not None
    assert str(explained).startswith(f"results/x: {words}")
    nameless = explain_oserror(OSError(code, os.strerror(code)))
    assert str(nameless).startswith(f"a file: {words}")


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        OSError("not a gzipped file"),
        ValueError("100 requested and 8 written"),
        RuntimeError("a bug"),
    ],
)
def test_other_errors_are_left_alone(error):
    assert explain_oserror(error) is None


def test_an_error_names_its_job_once():
    error = DataError("no images\nand no labels")
    assert error.lines() == ["error: no images", "error: and no labels"]
    error.job = "split seed0"
    assert error.lines() == ["error: split seed0: no images", "error: split seed0: and no labels"]
    stop = StoppedError("dense resnet8 seed0: stopped by SIGTERM")
    stop.job = "dense resnet8 seed0"
    assert stop.lines() == ["error: dense resnet8 seed0: stopped by SIGTERM"]

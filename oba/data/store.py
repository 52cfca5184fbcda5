"""The prepared folder: its layout, its digest, and reading it with every check."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from oba.data.images import decode, with_channels
from oba.data.types import FILES, IMAGES, INFO, LABELS, DataInfo
from oba.errors import DataError, FileError
from oba.files import read_json


@dataclass(frozen=True)
class FileList:
    """Image files as they were when the data set was prepared."""

    root: Path
    """Absolute folder that `files` are relative to."""
    files: list[str]
    """Names with forward slashes, by index."""
    sizes: list[int]
    """Bytes of each file."""
    digests: list[str]
    """Digest of each file's bytes."""

    def read(self, index: int, channels: int) -> Image.Image:
        """Decode one image in its own size; raise DataError if it is gone, damaged or not as long as it was."""
        path = self.root / self.files[index]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; it was there when the data set was prepared") from error
        if len(content) != self.sizes[index]:
            raise DataError(f"{path}: {len(content)} bytes, but {self.sizes[index]} when the data set was prepared")
        try:
            return with_channels(decode(content)[0], channels)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


@dataclass(frozen=True)
class Prepared:
    """A prepared folder, opened and checked."""

    info: DataInfo
    """What ``data.json`` says."""
    labels: np.ndarray
    """(N,) int64."""
    images: np.ndarray | None
    """(N, H, W, C) uint8, memory-mapped; ``None`` for ``storage="files"``."""
    files: FileList | None
    """The image files that were found; ``None`` if the source is none of image files."""


def usable_cpus() -> int:
    """Return how many CPUs this process may use, which a cluster's job may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def content_digest(
    classes: list[str],
    input_size: tuple[int, int, int],
    test_images: int,
    labels: np.ndarray,
    content: np.ndarray | FileList,
) -> str:
    """Return the digest of a data set's content (of files: names, sizes and digests), wherever it lies."""
    sha = hashlib.sha256(json.dumps([classes, list(input_size), test_images, len(labels)]).encode())
    sha.update(np.ascontiguousarray(labels, dtype="<i8").tobytes())
    if isinstance(content, FileList):
        sha.update(json.dumps([content.files, content.sizes, content.digests]).encode())
    else:
        for start in range(0, len(content), 4096):
            sha.update(np.ascontiguousarray(content[start : start + 4096]).data)
    return sha.hexdigest()[:16]


def open_prepared(directory: Path) -> Prepared:
    """Open a prepared folder and check that its files belong together.

    Args:
        directory: Where :func:`oba.data.prepare.prepare` wrote.

    Returns:
        The opened data set.

    Raises:
        FileError: If a file is missing or damaged, or shapes or the digest do not fit.
    """
    directory = Path(directory)
    info = DataInfo.from_json(read_json(directory / INFO), directory / INFO)
    count = info.train_images + info.test_images
    labels = _array(directory / LABELS, (count,), np.dtype(np.int64))
    channels, height, width = info.input_size
    decoded = count if info.storage == "arrays" else 0
    images = _array(directory / IMAGES, (decoded, height, width, channels), np.dtype(np.uint8))
    files = _file_list(directory / FILES, count)
    if info.storage == "arrays":
        content: np.ndarray | FileList = images
    elif files is not None:
        content = files
    else:
        raise FileError(f"{directory / FILES}: lists no image files, but {INFO} says files; prepare again")
    found = content_digest(info.classes, info.input_size, info.test_images, labels, content)
    if found != info.digest:
        raise FileError(f"{directory}: the content's digest is {found}, but {INFO} says {info.digest}; prepare again")
    return Prepared(info, labels, images if info.storage == "arrays" else None, files)


def _array(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Map an array file into memory and check its kind."""
    try:
        array = np.load(path, mmap_mode="r")
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file; prepare the data set again") from error
    except (ValueError, EOFError) as error:
        raise FileError(f"{path}: not a readable array ({error}); prepare the data set again") from error
    if array.shape != shape or array.dtype != dtype:
        raise FileError(f"{path}: {array.dtype} {array.shape}, but {INFO} says {dtype} {shape}; prepare again")
    return array


def _file_list(path: Path, count: int) -> FileList | None:
    """Read the list of image files, if the source has any, and check its length."""
    value = read_json(path)
    if value is None:
        return None
    try:
        files = FileList(Path(value["root"]), value["files"], value["sizes"], value["digests"])
        lengths = {len(files.files), len(files.sizes), len(files.digests)}
    except (KeyError, TypeError) as error:
        raise FileError(f"{path}: not a list of image files; prepare the data set again") from error
    if lengths != {count}:
        raise FileError(f"{path}: {len(files.files)} files, but {INFO} says {count}; prepare again")
    return files

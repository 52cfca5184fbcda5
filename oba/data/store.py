"""The prepared folder: its layout, its digest, and reading it with every check."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from oba.data.arrays import load_array, save_array
from oba.data.images import decode, with_channels
from oba.data.names import Names
from oba.data.regular import open_regular, read_whole
from oba.data.types import FILES, IMAGES, INFO, LABELS, NAMES, PARTS, ROOT, DataInfo
from oba.errors import DataError, FileError
from oba.files import read_json, write_json

DIGEST_BYTES = 8
ROW = np.dtype([("end", "<i8"), ("size", "<i8"), ("digest", "u1", (DIGEST_BYTES,))])
"""What is kept of an image file besides its name: where that ends among all names, the file's bytes, its digest."""


@dataclass(frozen=True, eq=False)
class FileList:
    """Image files as they were when the data set was prepared."""

    root: Path
    """Absolute folder that names are relative to."""
    names: Names
    """Names with forward slashes, by index."""
    sizes: np.ndarray
    """(N,) int64: bytes of each file."""
    digests: np.ndarray
    """(N, 8) uint8: first bytes of the SHA-256 of each file."""

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.sizes)

    def digest(self) -> str:
        """Return the digest of the list: names, sizes and digests, wherever the files lie."""
        sha = hashlib.sha256()
        for array in (self.names.ends, self.names.text, self.sizes, self.digests):
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()[:16]

    def read(self, index: int, channels: int) -> Image.Image:
        """Decode one image in its own size; raise DataError if it is gone, damaged or not what it was."""
        path = self._path(index)
        try:
            stream, status = open_regular(path)
            with stream:
                if status.st_size != self.sizes[index]:
                    raise DataError(f"{status.st_size} bytes, but {self.sizes[index]} when the data set was prepared")
                content = read_whole(stream, status)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; it was there when the data set was prepared") from error
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        if digest_of(content) != self.digests[index].tobytes():
            raise DataError(f"{path}: its content is not what it was when the data set was prepared")
        try:
            return with_channels(decode(content)[0], channels)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def _path(self, index: int) -> Path:
        """Return where an image lies, which is below the root."""
        name = self.names[index]
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise DataError(f"{self.root}: the list of its images names {name!r}, which lies elsewhere; prepare again")
        return self.root / name


@dataclass(frozen=True, eq=False)
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


def digest_of(content: bytes) -> bytes:
    """Return the digest of an image file's bytes, as lists of files keep it."""
    return hashlib.sha256(content).digest()[:DIGEST_BYTES]


def content_digest(info: DataInfo, labels: np.ndarray, images: np.ndarray) -> str:
    """Return the digest of everything that a result can depend on.

    Args:
        info: The data set; of image files that are not stored decoded, it has their list's digest.
        labels: (N,) int64.
        images: (N, H, W, C) uint8; empty where images stay files.

    Returns:
        16 hexadecimal digits; the same wherever the files lie.
    """
    facts: list[object] = [info.classes, list(info.input_size), info.val_images, info.test_images, len(labels)]
    if info.storage == "files":
        facts += [info.files_digest, info.crop_fraction, info.interpolation]
    sha = hashlib.sha256(json.dumps(facts).encode())
    sha.update(np.ascontiguousarray(labels, dtype="<i8").data)
    for start in range(0, len(images), 4096):
        sha.update(np.ascontiguousarray(images[start : start + 4096]).data)
    return sha.hexdigest()[:16]


def own_sizes(labels: np.ndarray, classes: int, val_images: int, test_images: int) -> dict[str, list[int]]:
    """Count the images of each class in a source's own parts.

    Args:
        labels: (N,) int64.
        classes: K, the number of classes.
        val_images: How many images before the test images are there to validate.
        test_images: How many at the end are there to test.

    Returns:
        By the part's name, K numbers each.
    """
    end = len(labels) - test_images
    parts = np.split(labels, [end - val_images, end])
    return {name: np.bincount(part, minlength=classes).tolist() for name, part in zip(PARTS, parts, strict=True)}


def write_files(directory: Path, files: FileList | None) -> None:
    """Write the list of image files into a prepared folder.

    Args:
        directory: The folder.
        files: The list; ``None`` if the source is none of image files.
    """
    rows = np.zeros(len(files) if files else 0, dtype=ROW)
    if files:
        rows["end"], rows["size"], rows["digest"] = files.names.ends, files.sizes, files.digests
    save_array(directory / NAMES, files.names.text if files else np.zeros(0, dtype=np.uint8))
    save_array(directory / FILES, rows)
    write_json(directory / ROOT, str(files.root) if files else None)


def open_prepared(directory: Path, *, whole: bool = False) -> Prepared:
    """Open a prepared folder and check that its files belong together.

    The list of image files is checked by its shape alone, unless asked for ``whole``: each image is compared with its
    digest when it is read.

    Args:
        directory: Where :func:`oba.data.prepare.prepare` wrote.
        whole: Whether to check the digest of the list of image files, too.

    Returns:
        The opened data set.

    Raises:
        FileError: If a file is missing or damaged, or shapes or the digest do not fit.
    """
    directory = Path(directory)
    info = DataInfo.from_json(read_json(directory / INFO), directory / INFO)
    count = info.images
    labels = load_array(directory / LABELS, (count,), np.dtype(np.int64), INFO)
    channels, height, width = info.input_size
    decoded = count if info.storage == "arrays" else 0
    images = load_array(directory / IMAGES, (decoded, height, width, channels), np.dtype(np.uint8), INFO)
    found = content_digest(info, labels, images)
    if found != info.digest:
        raise FileError(f"{directory}: the content's digest is {found}, but {INFO} says {info.digest}; prepare again")
    sizes = own_sizes(labels, len(info.classes), info.val_images, info.test_images)
    if sizes != {"train": info.train_sizes, "val": info.val_sizes, "test": info.test_sizes}:
        raise FileError(f"{directory / INFO}: its classes have other sizes than {LABELS} says; prepare again")
    files = _read_files(directory, count if info.files_digest else 0)
    if whole and files is not None and files.digest() != info.files_digest:
        raise FileError(f"{directory / FILES}: not the list of image files that {INFO} was written for; prepare again")
    return Prepared(info, labels, images if info.storage == "arrays" else None, files)


def _read_files(directory: Path, count: int) -> FileList | None:
    """Map the list of image files into memory, if the source has any."""
    rows = np.asarray(load_array(directory / FILES, (count,), ROW, INFO))
    text = np.asarray(load_array(directory / NAMES, (-1,), np.dtype(np.uint8), INFO))
    root = read_json(directory / ROOT)
    if not count:
        return None
    if not isinstance(root, str) or int(rows["end"][-1]) != len(text):
        raise FileError(f"{directory / ROOT}, {NAMES} and {FILES} do not belong together; prepare again")
    return FileList(Path(root), Names(text, rows["end"]), rows["size"], rows["digest"])

"""From a source to a prepared folder: read and decode every image once, and take the digest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from oba import registry
from oba.data.arrays import save_array
from oba.data.fingerprint import remember_arrays, remember_images
from oba.data.images import decode, fit, to_array, with_channels
from oba.data.names import Names
from oba.data.store import DIGEST_BYTES, FileList, content_digest, digest_of, usable_cpus, write_files
from oba.data.types import (
    IMAGES,
    INFO,
    LABELS,
    PREPARED_FILES,
    ArraySource,
    DataInfo,
    ImageArrays,
    ImageFiles,
)
from oba.datasets import DataConfig
from oba.errors import ConfigError, DataError
from oba.files import write_atomic, write_json

ARRAY_EDGE = 64
"""Images whose edges are at most this many pixels are stored decoded; larger ones stay files."""
_NAMED = 10
_CHUNK = 128


@dataclass(frozen=True, eq=False)
class _Reads:
    """What one look at every image file tells, by index."""

    shapes: np.ndarray
    """(N, 2) int32: height and width."""
    grey: np.ndarray
    """(N,) bool."""
    sizes: np.ndarray
    """(N,) int64: bytes."""
    times: np.ndarray
    """(N,) int64: modification times in nanoseconds, from before the file was read."""
    digests: np.ndarray
    """(N, 8) uint8."""
    problems: dict[int, str] = field(default_factory=dict)
    """What is wrong with files that cannot be read."""

    @classmethod
    def of(cls, count: int) -> _Reads:
        sizes, times = np.zeros((2, count), dtype=np.int64)
        digests = np.zeros((count, DIGEST_BYTES), dtype=np.uint8)
        return cls(np.zeros((count, 2), dtype=np.int32), np.zeros(count, dtype=bool), sizes, times, digests)

    def note(self, row: int, seen: _Seen | str) -> None:
        if isinstance(seen, str):
            self.problems[row] = seen
            return
        self.shapes[row], self.grey[row], self.sizes[row], self.times[row] = seen[:4]
        self.digests[row] = np.frombuffer(seen.digest, dtype=np.uint8)


class _Seen(NamedTuple):
    """What one look at an image file tells."""

    shape: tuple[int, int]
    grey: bool
    size: int
    time: int
    digest: bytes


def prepare(config: DataConfig, directory: Path, *, cache: Path | None = None, seen: str = "") -> DataInfo:
    """Write a data set's prepared folder: all of ``PREPARED_FILES``.

    Args:
        config: Which data set, from where, in which size.
        directory: Where to write; ``data.json`` comes last, and older files go first.
        cache: Where to note what was read, for :func:`oba.data.fingerprint.fingerprint`.
        seen: The fingerprint that was taken before.

    Returns:
        What was written to ``data.json``.
    """
    directory, started = Path(directory), time.time_ns()
    found: ArraySource | ImageFiles = registry.load("data set", config.name).open_source(config)
    source = found.read() if isinstance(found, ArraySource) else found
    directory.mkdir(parents=True, exist_ok=True)
    for name in reversed(PREPARED_FILES):
        (directory / name).unlink(missing_ok=True)
    if isinstance(source, ImageArrays):
        images, reads, files = _store_arrays(source, config, directory), None, None
    else:
        reads = _store_files(source, config, directory)
        images = np.load(directory / IMAGES, mmap_mode="r")
        files = FileList(source.root.resolve(), Names.of(source.files), reads.sizes, reads.digests)
    write_files(directory, files)
    save_array(directory / LABELS, source.labels)
    info = _describe(config, source, images, files)
    write_json(directory / INFO, info.to_json())
    if cache is not None and isinstance(found, ArraySource):
        remember_arrays(cache, seen, found, started)
    elif cache is not None and reads is not None:
        remember_images(cache, seen, found, started, reads.sizes, reads.times, reads.digests)
    return info


def _describe(
    config: DataConfig, source: ImageArrays | ImageFiles, images: np.ndarray, files: FileList | None
) -> DataInfo:
    """Return what ``data.json`` says."""
    train = len(source.labels) - source.test_images
    sizes = [np.bincount(part, minlength=len(source.classes)) for part in np.split(source.labels, [train])]
    _, height, width, channels = images.shape
    info = DataInfo(
        name=config.name,
        classes=source.classes,
        input_size=(channels, height, width),
        train_images=train,
        test_images=source.test_images,
        digest="",
        storage="arrays" if len(images) else "files",
        train_sizes=sizes[0].tolist(),
        test_sizes=sizes[1].tolist(),
        files_digest=files.digest() if files else "",
        crop_fraction=config.crop_fraction,
        interpolation=config.interpolation,
    )
    return replace(info, digest=content_digest(info, source.labels, images))


def _store_arrays(source: ImageArrays, config: DataConfig, directory: Path) -> np.ndarray:
    """Write the images of a source that holds arrays."""
    images, edge = source.images, config.image_size
    if edge is not None and edge > ARRAY_EDGE:
        raise ConfigError(
            f"data.image_size: got {edge}, but {config.name} holds images of {images.shape[2]}x{images.shape[1]} "
            f"pixels; allowed: 4 to {ARRAY_EDGE}, or none"
        )
    if edge is not None:
        pictures = (Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image) for image in images)
        images = np.stack([to_array(fit(picture, edge, edge, resample=config.interpolation)) for picture in pictures])
    save_array(directory / IMAGES, images)
    return images


def _store_files(source: ImageFiles, config: DataConfig, directory: Path) -> _Reads:
    """Decode small images into one array, or examine large ones, which stay where they are."""
    first = _first_readable(source)
    height, width = (config.image_size,) * 2 if config.image_size else first.shape
    if max(height, width) > ARRAY_EDGE:
        reads = _look(source, config)
        channels = 1 if reads.grey.all() else 3
        save_array(directory / IMAGES, np.empty((0, height, width, channels), dtype=np.uint8))
        return reads

    def fill(path: Path, channels: int) -> _Reads:
        shape = (len(source.files), height, width, channels)
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)

        def keep(row: int, image: Image.Image) -> None:
            image = with_channels(image, channels)
            rows[row] = to_array(fit(image, height, width, resample=config.interpolation))

        reads = _look(source, config, keep)
        rows.flush()
        return reads

    found: list[_Reads] = []

    def write(path: Path) -> None:
        # Images are grey only if all are: believe the first one, and start again in colour where it misleads.
        found.append(fill(path, 1 if first.grey else 3))
        if first.grey and not found[-1].grey.all():
            found.append(fill(path, 3))

    write_atomic(directory / IMAGES, write)
    return found[-1]


def _first_readable(source: ImageFiles) -> _Seen:
    """Look at the first image that can be read; the others are expected to be like it."""
    problems = {}
    for row in range(len(source.files)):
        seen = _see(source, row, None)
        if isinstance(seen, _Seen):
            return seen
        problems[row] = seen
    raise DataError(_unreadable(source, problems))


def _look(source: ImageFiles, config: DataConfig, keep: Callable[[int, Image.Image], None] | None = None) -> _Reads:
    """Decode all images in parallel, give each to ``keep``, and report all problems at once."""
    count = len(source.files)

    def see_chunk(start: int) -> list[_Seen | str]:
        return [_see(source, row, keep) for row in range(start, min(start + _CHUNK, count))]

    reads, row = _Reads.of(count), 0
    # Threads suffice: reading, hashing, decoding and resizing free the interpreter's lock.
    with (
        ThreadPoolExecutor(min(32, usable_cpus())) as pool,
        tqdm(total=count, desc=f"reading {config.name}", unit="image", disable=None) as bar,
    ):
        for chunk in pool.map(see_chunk, range(0, count, _CHUNK)):
            for seen in chunk:
                reads.note(row, seen)
                row += 1
            bar.update(len(chunk))
    if reads.problems:
        raise DataError(_unreadable(source, reads.problems))
    if config.image_size is None and (reads.shapes != reads.shapes[0]).any():
        raise DataError(_differing(source, reads.shapes))
    return reads


def _see(source: ImageFiles, row: int, keep: Callable[[int, Image.Image], None] | None) -> _Seen | str:
    """Read and decode one file, at the least scale where nobody keeps it; return what is wrong where something is."""
    try:
        with open(source.root / source.files[row], "rb", buffering=0) as stream:
            status = os.fstat(stream.fileno())
            content = stream.read()
        image, shape = decode(content, draft=(1, 1) if keep is None else None)
    except DataError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
    if keep is not None:
        keep(row, image)
    return _Seen(shape, image.mode == "L", len(content), status.st_mtime_ns, digest_of(content))


def _named(entries: list[str]) -> str:
    rest = len(entries) - _NAMED
    return ", ".join(entries[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _unreadable(source: ImageFiles, problems: dict[int, str]) -> str:
    bad = [f"{source.files[row]} ({problem})" for row, problem in problems.items()]
    return (
        f"data.root: {len(bad)} of {len(source.files)} images in {source.root} cannot be read: {_named(bad)}; "
        "replace or remove them"
    )


def _differing(source: ImageFiles, shapes: np.ndarray) -> str:
    height, width = shapes[0]
    rows = np.flatnonzero((shapes != shapes[0]).any(axis=1))
    others = [f"{source.files[row]} ({shapes[row, 1]}x{shapes[row, 0]})" for row in rows]
    return (
        f"data.image_size: not given, but images in {source.root} differ in size: {source.files[0]} is "
        f"{width}x{height}, {len(others)} are not: {_named(others)}; allowed: one size, or image_size to bring them to"
    )

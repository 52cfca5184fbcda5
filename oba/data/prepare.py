"""From a source to a prepared folder: decode or examine every image once, and take the digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from oba import registry
from oba.data.images import decode, fit, to_array, with_channels
from oba.data.store import FileList, content_digest, usable_cpus
from oba.data.types import (
    FILES,
    IMAGES,
    INFO,
    LABELS,
    PREPARED_FILES,
    ArraySource,
    DataInfo,
    ImageArrays,
    ImageFiles,
)
from oba.errors import ConfigError, DataError
from oba.files import write_atomic, write_json
from oba.recipes import DataConfig

ARRAY_EDGE = 64
"""Images whose edges are at most this many pixels are stored decoded."""
_NAMED = 10
_CHUNK = 128


@dataclass(frozen=True)
class _Seen:
    """What one look at an image file tells."""

    size: tuple[int, int] = (0, 0)
    grey: bool = True
    bytes: int = 0
    digest: str = ""
    problem: str | None = None


def prepare(config: DataConfig, directory: Path) -> DataInfo:
    """Write a data set's prepared folder: all of ``PREPARED_FILES``.

    Args:
        config: Which data set, from where, in which size.
        directory: Where to write; ``data.json`` comes last, and older files go first.

    Returns:
        What was written to ``data.json``.
    """
    directory = Path(directory)
    found: ArraySource | ImageFiles = registry.load("data set", config.name).open_source(config)
    source = found.read() if isinstance(found, ArraySource) else found
    directory.mkdir(parents=True, exist_ok=True)
    for name in reversed(PREPARED_FILES):
        (directory / name).unlink(missing_ok=True)
    if isinstance(source, ImageArrays):
        input_size, content = _store_arrays(source, config, directory)
    else:
        input_size, content = _store_files(source, config, directory)
    _save(directory / LABELS, source.labels)
    info = DataInfo(
        name=config.name,
        classes=source.classes,
        input_size=input_size,
        train_images=len(source.labels) - source.test_images,
        test_images=source.test_images,
        digest=content_digest(source.classes, input_size, source.test_images, source.labels, content),
        storage="arrays" if isinstance(content, np.ndarray) else "files",
    )
    write_json(directory / INFO, info.to_json())
    return info


def _save(path: Path, array: np.ndarray) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.save(stream, array)

    write_atomic(path, write)


def _store_arrays(source: ImageArrays, config: DataConfig, directory: Path) -> tuple[tuple[int, int, int], np.ndarray]:
    """Write the images of a source that holds arrays."""
    images, edge = source.images, config.image_size
    if edge is not None and edge > ARRAY_EDGE:
        raise ConfigError(
            f"data.image_size: got {edge}, but {config.name} holds images of {images.shape[2]}x{images.shape[1]} "
            f"pixels; allowed: 4 to {ARRAY_EDGE}, or none"
        )
    if edge is not None:
        pictures = (Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image) for image in images)
        images = np.stack([to_array(fit(picture, edge, edge)) for picture in pictures])
    _save(directory / IMAGES, images)
    write_json(directory / FILES, None)
    _, height, width, channels = images.shape
    return (channels, height, width), images


def _store_files(
    source: ImageFiles, config: DataConfig, directory: Path
) -> tuple[tuple[int, int, int], np.ndarray | FileList]:
    """Decode small images into one array, or examine large ones and list them."""
    first = _first_readable(source)
    height, width = (config.image_size,) * 2 if config.image_size else first.size
    if max(height, width) > ARRAY_EDGE:
        seen = _look(source, config, draft=(height, width))
        channels = 1 if all(one.grey for one in seen) else 3
        _save(directory / IMAGES, np.empty((0, height, width, channels), dtype=np.uint8))
        return (channels, height, width), _list_files(source, seen, directory)

    def fill(path: Path, channels: int) -> list[_Seen]:
        shape = (len(source.files), height, width, channels)
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)

        def keep(row: int, image: Image.Image) -> None:
            rows[row] = to_array(fit(with_channels(image, channels), height, width))

        seen = _look(source, config, keep=keep)
        rows.flush()
        return seen

    def write(path: Path) -> None:
        # Images are grey only if all are: believe the first one, and start again in colour where it misleads.
        seen = fill(path, 1 if first.grey else 3)
        if first.grey and not all(one.grey for one in seen):
            fill(path, 3)
        _list_files(source, seen, directory)

    write_atomic(directory / IMAGES, write)
    images = np.load(directory / IMAGES, mmap_mode="r")
    return (images.shape[-1], height, width), images


def _list_files(source: ImageFiles, seen: list[_Seen], directory: Path) -> FileList:
    """Write the list of image files."""
    root = source.root.resolve()
    files = FileList(root, source.files, [one.bytes for one in seen], [one.digest for one in seen])
    plain = {"root": str(root), "files": files.files, "sizes": files.sizes, "digests": files.digests}
    write_json(directory / FILES, plain)
    return files


def _first_readable(source: ImageFiles) -> _Seen:
    """Look at the first image that can be read; the others are expected to be like it."""
    seen: list[_Seen] = []
    for row in range(len(source.files)):
        seen.append(_see(source, row, None, None))
        if seen[-1].problem is None:
            return seen[-1]
    raise DataError(_unreadable(source, seen))


def _look(
    source: ImageFiles,
    config: DataConfig,
    draft: tuple[int, int] | None = None,
    keep: Callable[[int, Image.Image], None] | None = None,
) -> list[_Seen]:
    """Decode all images in parallel, give each to ``keep``, and report all problems at once."""
    count = len(source.files)

    def see_chunk(start: int) -> list[_Seen]:
        return [_see(source, row, draft, keep) for row in range(start, min(start + _CHUNK, count))]

    seen: list[_Seen] = []
    # Threads suffice: reading, hashing, decoding and resizing free the interpreter's lock.
    with (
        ThreadPoolExecutor(min(32, usable_cpus())) as pool,
        tqdm(total=count, desc=f"reading {config.name}", unit="image", disable=None) as bar,
    ):
        for chunk in pool.map(see_chunk, range(0, count, _CHUNK)):
            seen.extend(chunk)
            bar.update(len(chunk))
    if any(one.problem is not None for one in seen):
        raise DataError(_unreadable(source, seen))
    if config.image_size is None and len({one.size for one in seen}) > 1:
        raise DataError(_differing(source, seen))
    return seen


def _see(
    source: ImageFiles, row: int, draft: tuple[int, int] | None, keep: Callable[[int, Image.Image], None] | None
) -> _Seen:
    """Read and decode one file."""
    try:
        content = (source.root / source.files[row]).read_bytes()
        image, size = decode(content, draft)
    except (DataError, OSError) as error:
        return _Seen(problem=str(error) if isinstance(error, DataError) else error.strerror or str(error))
    if keep is not None:
        keep(row, image)
    return _Seen(size, image.mode == "L", len(content), hashlib.sha256(content).hexdigest()[:16])


def _named(entries: list[str]) -> str:
    rest = len(entries) - _NAMED
    return ", ".join(entries[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _unreadable(source: ImageFiles, seen: list[_Seen]) -> str:
    bad = [f"{name} ({one.problem})" for name, one in zip(source.files, seen, strict=True) if one.problem is not None]
    return (
        f"data.root: {len(bad)} of {len(seen)} images in {source.root} cannot be read: {_named(bad)}; "
        "replace or remove them"
    )


def _differing(source: ImageFiles, seen: list[_Seen]) -> str:
    height, width = seen[0].size
    others = [
        f"{name} ({one.size[1]}x{one.size[0]})"
        for name, one in zip(source.files, seen, strict=True)
        if one.size != (height, width)
    ]
    return (
        f"data.image_size: not given, but images in {source.root} differ in size: {source.files[0]} is "
        f"{width}x{height}, {len(others)} are not: {_named(others)}; allowed: one size, or image_size to bring them to"
    )

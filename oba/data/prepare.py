"""From a source to a prepared folder: read and decode every image once, and take the digest."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from oba import registry
from oba.data.arrays import save_array
from oba.data.fingerprint import remember_arrays, remember_images
from oba.data.images import fit, to_array, with_channels
from oba.data.look import Reads, first_readable, look
from oba.data.names import Names
from oba.data.store import FileList, content_digest, own_sizes, write_files
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
from oba.errors import ConfigError
from oba.files import write_atomic, write_json

ARRAY_EDGE = 64
"""Images whose edges are at most this many pixels are stored decoded; larger ones stay files."""


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
    sizes = own_sizes(source.labels, len(source.classes), source.val_images, source.test_images)
    _, height, width, channels = images.shape
    info = DataInfo(
        name=config.name,
        classes=source.classes,
        input_size=(channels, height, width),
        train_images=sum(sizes["train"]),
        val_images=source.val_images,
        test_images=source.test_images,
        digest="",
        storage="arrays" if len(images) else "files",
        train_sizes=sizes["train"],
        val_sizes=sizes["val"],
        test_sizes=sizes["test"],
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


def _store_files(source: ImageFiles, config: DataConfig, directory: Path) -> Reads:
    """Decode small images into one array, or examine large ones, which stay where they are."""
    first = first_readable(source)
    height, width = (config.image_size,) * 2 if config.image_size else first.shape
    if max(height, width) > ARRAY_EDGE:
        reads = look(source, config)
        channels = 1 if reads.grey.all() else 3
        save_array(directory / IMAGES, np.empty((0, height, width, channels), dtype=np.uint8))
        return reads

    def fill(path: Path, channels: int) -> Reads:
        shape = (len(source.files), height, width, channels)
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)

        def keep(row: int, image: Image.Image) -> None:
            image = with_channels(image, channels)
            rows[row] = to_array(fit(image, height, width, resample=config.interpolation))

        reads = look(source, config, keep)
        rows.flush()
        return reads

    found: list[Reads] = []

    def write(path: Path) -> None:
        # Images are grey only if all are: believe the first one, and start again in colour where it misleads.
        found.append(fill(path, 1 if first.grey else 3))
        if first.grey and not found[-1].grey.all():
            found.append(fill(path, 3))

    write_atomic(directory / IMAGES, write)
    return found[-1]

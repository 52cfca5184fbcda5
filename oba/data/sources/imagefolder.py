"""A folder of image files, one folder per class: the user's own images, ImageNet, CIFAR as JPEG.

Read are ``root/<class>/*``, or ``root/train/<class>/*`` and the data set's own test images: ``root/test/<class>/*``;
without it ``root/val/<class>/*``, or ``root/val/*`` with a file that names each image's class
(:mod:`oba.data.sources._labels`). Beside ``root/test/<class>/*``, ``root/val/<class>/*`` are its own validation images.
What the data set does not have is drawn by the seed. Names that start with a dot do not count. Images are taken as they
are stored: an orientation noted in EXIF is not applied, as in torchvision.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from oba.data.sources._labels import label_file, read_labels
from oba.data.types import ImageFiles
from oba.datasets import DataConfig
from oba.errors import ConfigError, DataError

SUFFIXES = (".jpg", ".jpeg", ".png")
"""Image files by the end of their name, in lower or upper case."""
_OTHER_IMAGES = (".bmp", ".gif", ".jp2", ".ppm", ".tif", ".tiff", ".webp", ".avif", ".heic")
_NAMED = 10


def open_source(config: DataConfig) -> ImageFiles:
    """List the images; none is opened yet.

    Args:
        config: ``root`` is the folder, ``labels`` the file of the classes of a flat ``val/``.

    Returns:
        Classes in the order of their names; files in the order of classes and names, those to train first, those to
        test last.

    Raises:
        ConfigError: If ``root`` is not given.
        DataError: If the folder is missing or not laid out as above, a class has no images, or the classes of
            its parts differ.
    """
    if config.root is None:
        raise ConfigError("data.root: imagefolder needs the folder of the images")
    root = Path(config.root).expanduser()
    if not root.is_dir():
        raise DataError(f"data.root: {root} is not a folder")
    train, own = _layout(root)
    classes = _folders(train)
    if len(classes) < 2:
        raise DataError(f"data.root: {train} has {len(classes)} class folders; at least 2 are needed")
    parts = [(train, _images(train, classes))]
    parts += [(part, _own_images(config, root, part, classes, alone=len(own) == 1)) for part in own]
    files: list[str] = []
    counts = []
    for part, found in parts:
        prefix = "" if part == root else f"{part.name}/"
        files += [f"{prefix}{name}" for names in found for name in names]
        counts.append([len(names) for names in found])
    labels = np.concatenate([np.repeat(np.arange(len(classes)), sizes) for sizes in counts]).astype(np.int64)
    *val, test = [sum(sizes) for sizes in counts[1:]] or [0]
    return ImageFiles(classes, root, files, labels, test, sum(val))


def _layout(root: Path) -> tuple[Path, list[Path]]:
    """Return the folder of the images that train, and others: none, those to test, or to validate and to test."""
    names = _folders(root)
    own = [name for name in ("val", "test") if name in names]
    if "train" not in names:
        if own:
            raise DataError(f"data.root: {root} has {own[0]}/, but no train/")
        return root, []
    others = [name for name in names if name not in {"train", *own}]
    if others:
        raise DataError(
            f"data.root: {root} has train/, but also {_some(others)}, which would not be read; "
            "allowed beside train/: val/, test/"
        )
    return root / "train", [root / name for name in own]


def _own_images(config: DataConfig, root: Path, part: Path, classes: list[str], *, alone: bool) -> list[list[str]]:
    """Return the names of the images of every class in one of the set's own parts, from its folder on."""
    folders, flat = _folders(part), _readable(part)
    if not flat:
        if config.labels is not None:
            raise DataError(
                f"data.labels: {config.labels} is given, but no images lie directly in {part}, where class folders "
                "name the classes; allowed: no data.labels"
            )
        if differing := sorted(set(classes) ^ set(folders)):
            raise DataError(
                f"data.root: {root / 'train'} and {part} differ in their classes: {_some(differing)} in one only"
            )
        return _images(part, classes)
    if folders:
        raise DataError(
            f"data.root: {part} has {len(flat)} images such as {flat[0]} beside class folders such as {folders[0]}; "
            "allowed: either"
        )
    if not alone:  # one file of labels could not tell whose images it names
        raise DataError(
            f"data.root: {root} has both val/ and test/, but {part} has no class folders; allowed: class folders in "
            "both, or one of them alone"
        )
    return read_labels(label_file(config.labels, root, part), part, flat, classes)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" and more" if len(names) > _NAMED else "")


def _folders(parent: Path) -> list[str]:
    with os.scandir(parent) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:  # such as a link that leads back to itself
        raise DataError(f"data.root: {entry.path}: {error.strerror}; remove it") from error


def _readable(folder: Path) -> list[str]:
    """Return the names of the image files in a folder, sorted."""
    visible = sorted(file for file in os.listdir(folder) if not file.startswith("."))
    other = [file for file in visible if file.lower().endswith(_OTHER_IMAGES)]
    if other:
        raise DataError(
            f"data.root: {folder} has {len(other)} images of a format that is not read, such as {other[0]}; "
            f"allowed: {', '.join(SUFFIXES)}"
        )
    return [file for file in visible if file.lower().endswith(SUFFIXES)]


def _images(parent: Path, classes: list[str]) -> list[list[str]]:
    """Return the names of the image files of every class, from the parent on."""
    found = [[f"{name}/{file}" for file in _readable(parent / name)] for name in classes]
    if empty := [name for name, files in zip(classes, found, strict=True) if not files]:
        raise DataError(
            f"data.root: {len(empty)} class folders in {parent} hold no images: {_some(empty)}; "
            f"allowed: {', '.join(SUFFIXES)}, directly in the class's folder"
        )
    return found

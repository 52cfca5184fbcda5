"""A folder of image files, one folder per class: the user's own images, ImageNet, CIFAR as JPEG.

Read are ``root/train/<class>/*`` and, if it is there, ``root/test/<class>/*``; or ``root/<class>/*``. Without a test
folder the test set is drawn by the seed. Names that start with a dot do not count. Images are taken as they are stored:
an orientation noted in EXIF is not applied, as in torchvision.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from oba.data.types import ImageFiles
from oba.errors import ConfigError, DataError
from oba.recipes import DataConfig

SUFFIXES = (".jpg", ".jpeg", ".png")
"""Image files by the end of their name, in lower or upper case."""
_OTHER_IMAGES = (".bmp", ".gif", ".jp2", ".ppm", ".tif", ".tiff", ".webp", ".avif", ".heic")


def open_source(config: DataConfig) -> ImageFiles:
    """List the images; none is opened yet.

    Args:
        config: ``root`` is the folder.

    Returns:
        Classes in the order of their names; files in the order of classes and names, test images last.

    Raises:
        ConfigError: If ``root`` is not given.
        DataError: If the folder is missing or not laid out as above, a class has no images, or the classes of
            training and test images differ.
    """
    if config.root is None:
        raise ConfigError("data.root: imagefolder needs the folder of the images")
    root = Path(config.root).expanduser()
    if not root.is_dir():
        raise DataError(f"data.root: {root} is not a folder")
    train, test = _layout(root)
    classes = _folders(train)
    if len(classes) < 2:
        raise DataError(f"data.root: {train} has {len(classes)} class folders; at least 2 are needed")
    if test is not None and (differing := sorted(set(classes) ^ set(_folders(test)))):
        raise DataError(
            f"data.root: {train} and {test} differ in their classes: {', '.join(differing[:10])}"
            f"{' and more' if len(differing) > 10 else ''} in one only"
        )
    files: list[str] = []
    labels: list[int] = []
    test_images = 0
    for part in (train, test):
        if part is None:
            continue
        found = _images(part, classes)
        test_images = sum(map(len, found)) if part is test else 0
        for label, names in enumerate(found):
            folder = (part.relative_to(root) / classes[label]).as_posix()
            files += [f"{folder}/{name}" for name in names]
            labels += [label] * len(names)
    return ImageFiles(classes, root, files, np.array(labels, dtype=np.int64), test_images)


def _layout(root: Path) -> tuple[Path, Path | None]:
    """Return the folders of training and of test images."""
    names = _folders(root)
    if "train" not in names:
        if "test" in names:
            raise DataError(f"data.root: {root} has test/, but no train/")
        return root, None
    others = [name for name in names if name not in {"train", "test"}]
    if others:
        raise DataError(
            f"data.root: {root} has train/, but also {', '.join(others[:10])}, which would not be read; "
            "allowed beside train/: test/"
        )
    return root / "train", root / "test" if "test" in names else None


def _folders(parent: Path) -> list[str]:
    with os.scandir(parent) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _images(parent: Path, classes: list[str]) -> list[list[str]]:
    """Return the names of the image files of every class, sorted."""
    found: list[list[str]] = []
    for name in classes:
        visible = sorted(file for file in os.listdir(parent / name) if not file.startswith("."))
        other = [file for file in visible if file.lower().endswith(_OTHER_IMAGES)]
        if other:
            raise DataError(
                f"data.root: {parent / name} has {len(other)} images of a format that is not read, such as {other[0]}; "
                f"allowed: {', '.join(SUFFIXES)}"
            )
        found.append([file for file in visible if file.lower().endswith(SUFFIXES)])
    empty = [name for name, files in zip(classes, found, strict=True) if not files]
    if empty:
        raise DataError(
            f"data.root: {len(empty)} class folders in {parent} hold no images: {', '.join(empty[:10])}"
            f"{' and more' if len(empty) > 10 else ''}; allowed: {', '.join(SUFFIXES)}, directly in the class's folder"
        )
    return found

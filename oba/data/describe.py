"""What a data set will look like, found in a moment: images are listed, and a few are opened for their size."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from oba import registry
from oba.data.images import bombs_refused, open_image
from oba.data.regular import open_regular
from oba.data.splits import shares_of
from oba.data.store import own_sizes
from oba.data.streams import Stream
from oba.data.types import ArraySource, ImageFiles
from oba.datasets import DataConfig, SplitsConfig
from oba.errors import DataError

_SAMPLES = 16
"""Image files that are looked at to tell what all are like."""


@dataclass(frozen=True)
class Description:
    """A data set before it is prepared."""

    classes: list[str]
    """Names of the classes, by label; numbers where the names are known only after reading."""
    class_sizes: list[int]
    """Number of training images of each class, by label."""
    test_images: int
    """Number of the source's own test images; 0 when the test set is drawn by the seed."""
    val_images: int = 0
    """Number of its own validation images; 0 when they are drawn by the seed."""

    @property
    def images(self) -> int:
        """Number of all images."""
        return sum(self.class_sizes) + self.val_images + self.test_images


def describe(data: DataConfig) -> Description:
    """Describe a data set without reading it.

    Args:
        data: Which data set, from where.

    Returns:
        Its classes and how many images it has.

    Raises:
        ConfigError: If there is no such data set, or its ``root`` is not given.
        DataError: If the folder is missing or not laid out as the source expects.
    """
    source = _source(data)
    if isinstance(source, ArraySource):
        classes, sizes = [str(label) for label in range(len(source.class_sizes))], source.class_sizes
    else:
        classes = source.classes
        sizes = own_sizes(source.labels, len(classes), source.val_images, source.test_images)["train"]
    return Description(classes, sizes, source.test_images, source.val_images)


def expected_input_size(data: DataConfig) -> tuple[int, int, int]:
    """Tell how a net will see the images, from a few of them.

    Args:
        data: Which data set, from where, in which size.

    Returns:
        Channels, height and width. Image files are taken for grey if those that are looked at are.

    Raises:
        ConfigError: If there is no such data set, or its ``root`` is not given.
        DataError: If the folder is missing or not laid out as the source expects, or none of the files is an image.
    """
    source = _source(data)
    if isinstance(source, ArraySource):
        channels, height, width = source.input_size
    else:
        modes, sizes = [], []
        for name in source.files[:: max(1, len(source.files) // _SAMPLES)]:
            with suppress(OSError, DataError), bombs_refused(), open_regular(source.root / name)[0] as stream:
                image = open_image(stream)
                modes.append(image.mode)
                sizes.append(image.size)
        if not sizes:
            raise DataError(f"data.root: none of the files looked at in {source.root} can be read as an image")
        width, height = sizes[0]
        channels = 1 if set(modes) == {"L"} else 3
    return (channels, data.image_size or height, data.image_size or width)


def _source(data: DataConfig) -> ArraySource | ImageFiles:
    return registry.load("data set", data.name).open_source(data)


def train_images(description: Description, splits: SplitsConfig) -> int:
    """Return how many images will train, before anything is prepared or drawn: no seed changes it.

    Args:
        description: The data set.
        splits: Fractions.

    Returns:
        The length of ``train`` that :func:`oba.data.splits.make_splits` will give.

    Raises:
        ConfigError: If a fraction leaves a class without images in one of the parts.
        DataError: If a class has fewer images than there are parts to divide it into.
    """
    counts = np.array(description.class_sizes)
    if not description.test_images:
        counts -= shares_of(counts, description.classes, splits.test, Stream.TEST)
    if not description.val_images:
        counts -= shares_of(counts, description.classes, splits.val, Stream.VAL)
    return int(counts.sum())

"""CIFAR-100: 60,000 colour images of 32x32 pixels in 100 (fine) classes, through torchvision's downloader."""

from __future__ import annotations

from oba.config import DataConfig
from oba.data.sources._cifar import read_cifar
from oba.data.types import ArraySource, ImageArrays


def open_source(config: DataConfig) -> ArraySource:
    """Describe CIFAR-100: 50,000 training images and 10,000 of its own test set.

    Args:
        config: ``root`` is torchvision's root folder, ``data/cifar100`` by default.

    Returns:
        The source. Reading it downloads what is not there yet. It names no files: their checksums allow for one
        content only.
    """

    def read() -> ImageArrays:
        from torchvision.datasets import CIFAR100

        return read_cifar(CIFAR100, config)

    return ArraySource(read, [500] * 100, test_images=10000)

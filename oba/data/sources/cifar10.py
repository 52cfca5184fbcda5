"""CIFAR-10: 60,000 colour images of 32x32 pixels in 10 classes, through torchvision's downloader."""

from __future__ import annotations

from oba.data.sources._cifar import read_cifar
from oba.data.types import ArraySource, ImageArrays
from oba.datasets import DataConfig


def open_source(config: DataConfig) -> ArraySource:
    """Describe CIFAR-10 in torchvision's root folder, ``data/cifar10`` by default."""

    def read() -> ImageArrays:
        from torchvision.datasets import CIFAR10

        return read_cifar(CIFAR10, config)

    # No files are named: they may have yet to be downloaded, and their checksums allow one content only.
    return ArraySource(read, [5000] * 10, test_images=10000, input_size=(3, 32, 32))

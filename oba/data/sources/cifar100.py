"""CIFAR-100: 60,000 colour images of 32x32 pixels in 100 (fine) classes, through torchvision's downloader."""

from __future__ import annotations

from oba.data.sources._cifar import read_cifar
from oba.data.types import ArraySource, ImageArrays
from oba.datasets import DataConfig


def open_source(config: DataConfig) -> ArraySource:
    """Describe CIFAR-100 in torchvision's root folder, ``data/cifar100`` by default."""

    def read() -> ImageArrays:
        from torchvision.datasets import CIFAR100

        return read_cifar(CIFAR100, config)

    # No files are named: they may have yet to be downloaded, and their checksums allow one content only.
    return ArraySource(read, [500] * 100, test_images=10000, input_size=(3, 32, 32))

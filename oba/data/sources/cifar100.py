"""CIFAR-100: 60,000 colour images of 32x32 pixels in 100 (fine) classes, through torchvision's downloader."""

from __future__ import annotations

from oba.config import DataConfig
from oba.data.sources._cifar import read_cifar
from oba.data.types import ImageArrays


def open_source(config: DataConfig) -> ImageArrays:
    """Read CIFAR-100, downloading it where it is not there yet.

    Args:
        config: ``root`` is torchvision's root folder, ``data/cifar100`` by default.

    Returns:
        50,000 training images followed by 10,000 test images.
    """
    from torchvision.datasets import CIFAR100

    return read_cifar(CIFAR100, config)

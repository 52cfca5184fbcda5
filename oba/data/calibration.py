"""The calibration images: which training images score structures."""

from __future__ import annotations

from oba.data.streams import Stream, stream
from oba.data.types import Splits
from oba.errors import ConfigError


def check_calibration(images: int, train: int) -> None:
    """Refuse to calibrate on more images than train.

    Args:
        images: ``calibration.images``.
        train: Number of training images.

    Raises:
        ConfigError: If there are not as many.
    """
    if images > train:
        raise ConfigError(
            f"calibration.images: got {images}, but the training split has {train} images; allowed: 1 to {train}"
        )


def calibration_images(splits: Splits, images: int) -> list[int]:
    """Draw the calibration images: a function of the seed, the training images and the number.

    Args:
        splits: The splits.
        images: How many.

    Returns:
        A part of ``train``, in random order, so that any run of them mixes the classes; the first ones of a larger
        draw are those of a smaller one.

    Raises:
        ConfigError: If fewer images train.
    """
    check_calibration(images, len(splits.train))
    return stream(splits.seed, Stream.CALIBRATION).permutation(splits.train)[:images].tolist()

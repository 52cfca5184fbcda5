"""scikit-learn's 1,797 scans of handwritten digits, 8x8 grey pixels; they come with the library."""

from __future__ import annotations

from typing import Any

import numpy as np

from oba.data.types import ArraySource, ImageArrays
from oba.datasets import DataConfig

_CLASS_SIZES = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def open_source(_config: DataConfig) -> ArraySource:
    """Describe the digits: there is nothing to find, and no test set of their own."""
    return ArraySource(_read, _CLASS_SIZES, test_images=0, input_size=(1, 8, 8))


def _read() -> ImageArrays:
    """Return (1797, 8, 8, 1) images, whose 17 grey levels are spread over 0 to 255."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = np.rint(digits["images"] * (255 / 16)).astype(np.uint8)[..., None]
    return ImageArrays(
        classes=[str(name) for name in digits["target_names"]],
        images=images,
        labels=digits["target"].astype(np.int64),
        test_images=0,
    )

"""scikit-learn's 1,797 scans of handwritten digits, 8x8 grey pixels; they come with the library."""

from __future__ import annotations

from typing import Any

import numpy as np

from oba.config import DataConfig
from oba.data.types import ImageArrays


def open_source(config: DataConfig) -> ImageArrays:
    """Load the digits.

    Args:
        config: Not needed: there is nothing to find.

    Returns:
        (1797, 8, 8, 1) images, whose 17 grey levels are spread over 0 to 255; no test set of its own.
    """
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = np.rint(digits["images"] * (255 / 16)).astype(np.uint8)[..., None]
    return ImageArrays(
        classes=[str(name) for name in digits["target_names"]],
        images=images,
        labels=digits["target"].astype(np.int64),
        test_images=0,
    )

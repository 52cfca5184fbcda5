"""Random numbers of single images: a function of an epoch's seed and the image, and of nothing else.

Neither the order nor the size of batches, nor the number of processes or of ranks that share them, changes what is
drawn for an image. The numbers are splitmix64's (Steele et al., 2014), counted from a state that is made of seed, image
and purpose, so that those of a whole batch are a few operations on arrays.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

_MASK, _STEP = (1 << 64) - 1, 0x9E3779B97F4A7C15


class Purpose(IntEnum):
    """What numbers are drawn for; each has its own, so that none depends on the settings of another."""

    OFFSET = 1
    BOX = 2
    FLIP = 3
    RESAMPLE = 4
    POLICY = 5
    ERASE = 6


def random_bits(seed: int, images: np.ndarray, purpose: Purpose, count: int) -> np.ndarray:
    """Draw 64 random bits at a time.

    Args:
        seed: Of the epoch.
        images: (B,) int64 indices.
        purpose: What for.
        count: How many for each image.

    Returns:
        (B, count) uint64.
    """
    start = _mixed(np.array([seed & _MASK], dtype=np.uint64)) + np.uint64(int(purpose) * _STEP & _MASK)
    states = _mixed(_mixed(start) + images.astype(np.uint64) * np.uint64(_STEP))
    return _mixed(states[:, None] + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_STEP))


def uniforms(seed: int, images: np.ndarray, purpose: Purpose, count: int) -> np.ndarray:
    """Draw uniform numbers.

    Args:
        seed: Of the epoch.
        images: (B,) int64 indices.
        purpose: What for.
        count: How many for each image.

    Returns:
        (B, count) float64 in [0, 1).
    """
    return (random_bits(seed, images, purpose, count) >> np.uint64(11)) * 2.0**-53


def _mixed(states: np.ndarray) -> np.ndarray:
    """Return splitmix64's output for each state; sums and products wrap."""
    mixed = (states ^ (states >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))

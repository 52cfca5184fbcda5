"""Dividing a prepared data set by a seed: test, val and train, and the channels' statistics.

`test` and `val` take the same fraction of every class (largest remainders); where a data set has such a part of its
own, it stays as it is. Calibration images are drawn from `train`, over all classes alike, when they are needed; they
still train.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from oba.data.images import fit, to_array
from oba.data.store import Prepared, open_prepared
from oba.data.streams import Stream, stream
from oba.data.types import PARTS, Splits
from oba.datasets import DataConfig, SplitsConfig
from oba.errors import ConfigError, DataError

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
STATISTICS_IMAGES = 2048
"""Training images that mean and std are estimated from where images are not stored decoded."""


def make_splits(directory: Path, data: DataConfig, splits: SplitsConfig, seed: int) -> Splits:
    """Divide a prepared data set. Each part has a random stream of its own, so that `test` does not depend on `val`.

    Args:
        directory: The prepared folder.
        data: ``normalization`` counts here.
        splits: Fractions.
        seed: The same seed gives the same splits.

    Returns:
        The splits, with the channels' mean and standard deviation: over all pixels of `train`, or of up to 2,048 of
        its images where they are files; or those that ``normalization`` names.

    Raises:
        ConfigError: If a fraction leaves a class without images in one of the parts, or known statistics do not fit the
            number of channels.
        DataError: If a class has fewer images than there are parts to divide it into.
    """
    prepared = open_prepared(directory)
    info, labels = prepared.info, prepared.labels
    train, val, test = (np.asarray(info.own(part)) for part in PARTS)
    if not info.test_images:
        train, test = _take(train, labels, info.classes, splits.test, seed, Stream.TEST)
    if not info.val_images:
        train, val = _take(train, labels, info.classes, splits.val, seed, Stream.VAL)
    mean, std = known_statistics(data) or _statistics(prepared, train, seed)
    if len(mean) != info.input_size[0]:
        raise ConfigError(
            f"data.normalization: {data.normalization} has {len(mean)} channels, but {info.name} has "
            f"{info.input_size[0]}; allowed: dataset, or given with as many"
        )
    parts = np.zeros(len(labels), dtype=np.uint8)
    parts[val], parts[test] = PARTS.index("val"), PARTS.index("test")
    return Splits(seed, parts, list(mean), list(std), info.digest)


def known_statistics(data: DataConfig) -> tuple[list[float], list[float]] | None:
    """Return the statistics that images are normalised with.

    Args:
        data: ``normalization`` counts here.

    Returns:
        Mean and standard deviation of each channel; None where the training images will tell.
    """
    if data.normalization == "imagenet":
        return IMAGENET_MEAN, IMAGENET_STD
    return (data.mean, data.std) if data.mean is not None and data.std is not None else None


def _take(
    pool: np.ndarray, labels: np.ndarray, classes: list[str], fraction: float, seed: int, part: Stream
) -> tuple[np.ndarray, np.ndarray]:
    """Divide a pool into what stays and what is taken, class by class."""
    counts = np.bincount(labels[pool], minlength=len(classes))
    shares = shares_of(counts, classes, fraction, part)
    order = stream(seed, part).permutation(pool)
    order = order[np.argsort(labels[order], kind="stable")]
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    taken = rank < shares[labels[order]]
    return np.sort(order[~taken]), np.sort(order[taken])


def shares_of(counts: np.ndarray, classes: list[str], fraction: float, part: Stream) -> np.ndarray:
    """Return how many of each class's ``counts`` images become `test` or `val`.

    Args:
        counts: (K,) int64, images of each class.
        classes: Their names.
        fraction: ``splits.test`` or ``splits.val``.
        part: Which of them.

    Returns:
        (K,) int64; the sum is the fraction of all images, rounded.

    Raises:
        ConfigError: If a class would have no image on one side.
        DataError: If a class has fewer than two images.
    """
    shares = _rounded(counts, fraction)
    _check_shares(counts, shares, classes, fraction, part)
    return shares


def _rounded(counts: np.ndarray, fraction: float) -> np.ndarray:
    """Return how many of each class are taken: a fraction each, rounded so that the sum is right too."""
    quotas = counts * fraction
    shares = np.floor(quotas).astype(np.int64)
    missing = round(float(quotas.sum())) - int(shares.sum())
    shares[np.argsort(shares - quotas, kind="stable")[:missing]] += 1
    return shares


def _check_shares(counts: np.ndarray, shares: np.ndarray, classes: list[str], fraction: float, part: Stream) -> None:
    key, what = ("splits.test", "test") if part == Stream.TEST else ("splits.val", "validation")
    smallest = int(counts.min())
    if smallest < 2:
        name = classes[int(counts.argmin())]
        raise DataError(
            f"{key}: class {name!r} has {smallest} images left to take {what} images from; at least 2 are needed"
        )
    for side, size in ((what, shares), ("training", counts - shares)):
        if size.min() < 1:
            label = int(size.argmin())
            low, high = math.ceil(1000 / smallest) / 1000, math.floor(1000 * (smallest - 1) / smallest) / 1000
            raise ConfigError(
                f"{key}: got {fraction}, which leaves class {classes[label]!r} ({counts[label]} images) without a "
                f"{side} image; allowed: {low} to {high}"
            )


def _statistics(prepared: Prepared, train: np.ndarray, seed: int) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel of pixels in [0, 1], exactly, from counts of grey levels."""
    channels, height, width = prepared.info.input_size
    levels = np.zeros((channels, 256), dtype=np.int64)

    def count(pixels: np.ndarray) -> None:
        for channel in range(channels):
            levels[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)

    if prepared.images is not None:
        for start in range(0, len(train), 1024):
            count(prepared.images[train[start : start + 1024]])
    elif prepared.files is not None:
        for index in np.sort(stream(seed, Stream.STATISTICS).permutation(train)[:STATISTICS_IMAGES]):
            image = prepared.files.read(int(index), channels)
            count(to_array(fit(image, height, width, prepared.info.crop_fraction, prepared.info.interpolation)))
    values = np.arange(256) / 255
    share = levels / levels.sum(axis=1, keepdims=True)
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(axis=1)
    # A channel that hardly varies is centred, not blown up: one grey level is the least deviation.
    return mean.tolist(), np.maximum(np.sqrt(variance), 1 / 255).tolist()

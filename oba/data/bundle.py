"""Batches of a prepared data set on the device: in order or shuffled, augmented, normalised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oba import registry
from oba.data.augment import Changes, draw_flips, draw_offsets, mirror, pad_and_crop
from oba.data.calibration import calibration_images
from oba.data.loader import ArrayPixels, FilePixels, Pixels
from oba.data.store import open_prepared
from oba.data.types import DataInfo, Splits
from oba.datasets import AugmentConfig
from oba.errors import FileError

WHOLE = (0, 1)
"""The part of every batch that a single process takes: all of it."""


class Split:
    """A part of a data set, as batches."""

    def __init__(
        self,
        pixels: Pixels,
        labels: Tensor,
        indices: Sequence[int] | np.ndarray,
        *,
        mean: list[float],
        std: list[float],
        augment: AugmentConfig,
    ) -> None:
        """Collect what batches are made of.

        Args:
            pixels: The images of the data set.
            labels: (N,) int64, of the whole data set, on the device.
            indices: The images of this part, in the order of unshuffled batches.
            mean: Per channel, of pixels in [0, 1].
            std: Per channel, of pixels in [0, 1].
            augment: What ``augment=True`` does.
        """
        self._pixels = pixels
        self._labels = labels
        self._indices = np.asarray(indices, dtype=np.int64)
        self._mean = tuple(mean)
        deviation = torch.tensor(std, dtype=torch.float64)
        self._scale = (1 / (255 * deviation)).to(labels.device, torch.float32).view(-1, 1, 1)
        self._shift = (-torch.tensor(mean, dtype=torch.float64) / deviation).to(labels.device, torch.float32)
        self._shift = self._shift.view(-1, 1, 1)
        self._augment = augment

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._indices)

    def batches(
        self,
        batch_size: int,
        *,
        shuffle_seed: int | None = None,
        augment: bool = False,
        part: tuple[int, int] = WHOLE,
        skip: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Go once through the images; the last batch may be smaller.

        Args:
            batch_size: Images per batch B.
            shuffle_seed: Seed of the order and of the augmentation: an epoch is a function of it alone, whatever was
                drawn before, here or elsewhere, and what is done to an image is a function of it and the image.
                Without it, the order of the split.
            augment: Whether to change images at random, as the configuration says.
            part: Which images of every batch are wanted, as (r, N): number r, r + N, r + 2N and so on. The parts of N
                ranks are together what one process would see; the last one may be empty.
            skip: How many batches at the start are left out, without being read; those that follow stay the same.

        Returns:
            An iterator over (inputs, targets): (B, C, H, W) float32, normalised, and (B,) int64, on the device.

        Raises:
            ValueError: If ``augment`` is asked for without a seed, a batch would be empty, or there is no such part.
        """
        if augment and shuffle_seed is None:
            raise ValueError("augment needs a shuffle_seed")
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size} must be at least 1")
        if not 0 <= part[0] < part[1]:
            raise ValueError(f"part {part} must be (r, N) with 0 <= r < N")
        order = self._indices
        if shuffle_seed is not None:
            generator = torch.Generator().manual_seed(shuffle_seed)
            order = order[torch.randperm(len(order), generator=generator).numpy()]
        batches = [order[start : start + batch_size][part[0] :: part[1]] for start in range(0, len(order), batch_size)]
        batches = batches[skip:]
        changes = None
        if augment and shuffle_seed is not None:
            changes = Changes(self._augment, shuffle_seed, self._mean)
        return self._batches(batches, changes) if batches else iter(())

    def _batches(self, batches: list[np.ndarray], changes: Changes | None) -> Iterator[tuple[Tensor, Tensor]]:
        order, sizes, device = np.concatenate(batches), [len(batch) for batch in batches], self._labels.device
        targets = self._labels[torch.from_numpy(order).to(device)].split(sizes)
        offsets: Sequence[Tensor | None] = [None] * len(sizes)
        flips: Sequence[Tensor | None] = [None] * len(sizes)
        if changes is not None and not changes.by_image:
            if changes.config.crop == "pad":
                offsets = torch.from_numpy(draw_offsets(order, changes)).to(device).split(sizes)
            if changes.config.flip:
                flips = torch.from_numpy(draw_flips(order, changes)).to(device).split(sizes)
        erase = None
        if changes is not None and "erasing" in changes.config.augmentations:
            erase = registry.entry("augmentation", "erasing")
        for number, images in enumerate(self._pixels.stream(batches, changes)):
            if (offset := offsets[number]) is not None:
                images = pad_and_crop(images, offset, self._augment.padding)
            if (flip := flips[number]) is not None:
                images = mirror(images, flip)
            images = images.to(torch.float32).mul_(self._scale).add_(self._shift)
            if erase is not None:
                erase(images, batches[number], changes)
            yield images, targets[number]


@dataclass(frozen=True)
class DataBundle:
    """The parts of a data set, ready for use."""

    train: Split
    """Images that train."""
    val: Split
    """Images that choose, and that every stage is measured on."""
    test: Split
    """Images that only the evaluation reads."""
    calibration: Split
    """Training images that score structures, as many as :func:`load_bundle` was asked for."""
    info: DataInfo
    """The data set."""
    splits: Splits
    """The indices of the parts."""


def load_bundle(
    directory: Path, splits: Splits, augment: AugmentConfig, device: torch.device, *, calibration: int = 0
) -> DataBundle:
    """Open a prepared data set.

    Args:
        directory: The prepared folder.
        splits: How it is divided.
        augment: What ``augment=True`` does to images.
        device: Where batches are wanted. Decoded images are copied there once.
        calibration: Number of calibration images that are wanted.

    Returns:
        The four parts.

    Raises:
        ConfigError: If there are fewer training images than calibration images that are wanted.
        FileError: If the prepared folder is damaged, or the splits are not of this data set.
    """
    prepared = open_prepared(directory)
    info = prepared.info
    _check_splits(splits, info, directory)
    if prepared.images is not None:
        pixels: Pixels = ArrayPixels(prepared.images, device)
    else:
        pixels = FilePixels(prepared, device)
    labels = torch.from_numpy(np.array(prepared.labels)).to(device)

    def split(indices: Sequence[int] | np.ndarray) -> Split:
        return Split(pixels, labels, indices, mean=splits.mean, std=splits.std, augment=augment)

    drawn = calibration_images(splits, calibration)
    return DataBundle(split(splits.train), split(splits.val), split(splits.test), split(drawn), info, splits)


def _check_splits(splits: Splits, info: DataInfo, directory: Path) -> None:
    """Refuse splits of another data set, and those that move images into or out of its own parts."""
    if len(splits.parts) != info.images:
        raise FileError(f"splits: of {len(splits.parts)} images, but {directory} holds {info.images}; split again")
    if splits.data != info.digest:
        raise FileError(
            f"splits: of a data set with digest {splits.data}, but {directory} has {info.digest}; split again"
        )
    if not len(splits.mean) == len(splits.std) == info.input_size[0]:
        raise FileError(f"splits: {len(splits.mean)} channels, but {directory} has {info.input_size[0]}; split again")
    for part, found in (("val", splits.val), ("test", splits.test)):
        own = info.own(part)
        if own and not np.array_equal(found, own):
            raise FileError(f"splits: {part} is not the {len(own)} {part} images of {directory}; split again")

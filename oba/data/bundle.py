"""Batches of a prepared data set on the device: in order or shuffled, augmented, normalised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from oba.data.augment import crop_boxes, draw, mirror, pad_and_crop, resize_boxes
from oba.data.calibration import calibration_images
from oba.data.loader import FilePixels
from oba.data.store import open_prepared
from oba.data.types import DataInfo, Splits
from oba.errors import FileError
from oba.recipes import AugmentConfig


class Pixels(Protocol):
    """Where images come from."""

    def stream(self, order: Tensor, batch_size: int, draws: np.ndarray | None) -> Iterator[Tensor]:
        """Yield batches of images with values 0 to 255, cut by :func:`crop_boxes` where there are draws.

        Args:
            order: (N,) int64 indices of the data set, on the CPU.
            batch_size: Images per batch.
            draws: (N, 22) numbers of :class:`oba.data.augment.Draws`, or ``None``.
        """
        ...


class ArrayPixels:
    """All images of a data set in the device's memory."""

    def __init__(self, images: np.ndarray, device: torch.device) -> None:
        """Copy images, (N, H, W, C) uint8, to the device."""
        self.images = torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C")).to(device)

    def stream(self, order: Tensor, batch_size: int, draws: np.ndarray | None) -> Iterator[Tensor]:
        """Yield batches of (B, C, H, W) uint8, or float32 with values 0 to 255 where boxes were cut."""
        device = self.images.device
        height, width = self.images.shape[-2:]
        order = order.to(device)
        boxes = None if draws is None else torch.from_numpy(crop_boxes(draws, height, width)).to(device)
        for start in range(0, len(order), batch_size):
            images = self.images.index_select(0, order[start : start + batch_size])
            yield images if boxes is None else resize_boxes(images, boxes[start : start + batch_size])


class Split:
    """A part of a data set, as batches."""

    def __init__(
        self,
        pixels: Pixels,
        labels: Tensor,
        indices: list[int],
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
        self._indices = torch.tensor(indices, dtype=torch.int64)
        deviation = torch.tensor(std, dtype=torch.float64)
        self._scale = (1 / (255 * deviation)).to(labels.device, torch.float32).view(-1, 1, 1)
        self._shift = (-torch.tensor(mean, dtype=torch.float64) / deviation).to(labels.device, torch.float32)
        self._shift = self._shift.view(-1, 1, 1)
        self._augment = augment

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._indices)

    def batches(
        self, batch_size: int, *, shuffle_seed: int | None = None, augment: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Go once through the images; the last batch may be smaller.

        Args:
            batch_size: Images per batch B.
            shuffle_seed: Seed of the order and of the augmentation: an epoch is a function of it alone, whatever was
                drawn before, here or elsewhere. Without it, the order of the split.
            augment: Whether to change images at random, as the configuration says.

        Returns:
            An iterator over (inputs, targets): (B, C, H, W) float32, normalised, and (B,) int64, on the device.

        Raises:
            ValueError: If ``augment`` is asked for without a seed, or a batch would be empty.
        """
        if augment and shuffle_seed is None:
            raise ValueError("augment needs a shuffle_seed")
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size} must be at least 1")
        return self._batches(batch_size, shuffle_seed, augment)

    def _batches(self, batch_size: int, shuffle_seed: int | None, augment: bool) -> Iterator[tuple[Tensor, Tensor]]:
        order, config = self._indices, self._augment if augment else AugmentConfig()
        generator = torch.Generator()
        if shuffle_seed is not None:
            generator.manual_seed(shuffle_seed)
            order = order[torch.randperm(len(order), generator=generator)]
        draws = draw(len(order), config, generator)
        device = self._labels.device
        targets = self._labels[order.to(device)]
        offsets = None if draws.offsets is None else draws.offsets.to(device)
        flips = None if draws.flips is None else draws.flips.to(device)
        for number, images in enumerate(self._pixels.stream(order, batch_size, draws.boxes)):
            part = slice(number * batch_size, (number + 1) * batch_size)
            if offsets is not None:
                images = pad_and_crop(images, offsets[part], config.padding)
            if flips is not None:
                images = mirror(images, flips[part])
            yield images.to(torch.float32).mul_(self._scale).add_(self._shift), targets[part]


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
    count = info.train_images + info.test_images
    for name in ("train", "val", "test"):
        strange = [index for index in getattr(splits, name) if not 0 <= index < count]
        if strange:
            raise FileError(f"splits: {name} names image {strange[0]}, but {directory} holds {count}; split again")
    if not len(splits.mean) == len(splits.std) == info.input_size[0]:
        raise FileError(f"splits: {len(splits.mean)} channels, but {directory} has {info.input_size[0]}; split again")
    if prepared.images is not None:
        pixels: Pixels = ArrayPixels(prepared.images, device)
    else:
        pixels = FilePixels(prepared, device)
    labels = torch.from_numpy(np.array(prepared.labels)).to(device)

    def split(indices: list[int]) -> Split:
        return Split(pixels, labels, indices, mean=splits.mean, std=splits.std, augment=augment)

    drawn = calibration_images(splits, calibration)
    return DataBundle(split(splits.train), split(splits.val), split(splits.test), split(drawn), info, splits)

"""Random changes of single images, by the processes that read them: crops, and the policies of published recipes.

The order is that of those recipes: crop, mirror, colour jitter, policy. Policies draw from the global generators of
Python, numpy and torch: all three are seeded for every image.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image

from oba import registry
from oba.data.augment import Changes, crop_boxes, draw_bicubic, draw_boxes, draw_flips, draw_offsets
from oba.data.draws import Purpose, random_bits
from oba.data.images import crop_and_resize, fit, to_array
from oba.datasets import AugmentConfig

Change = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class View:
    """How a net sees images."""

    input_size: tuple[int, int, int]
    """Channels, height and width."""
    crop_fraction: float = 1.0
    """What the centre crop leaves of the shorter edge."""
    interpolation: str = "bilinear"
    """How images are resized that are not cut at random."""


def view_batch(
    read: Callable[[int], Image.Image], images: np.ndarray, view: View, changes: Changes | None
) -> np.ndarray:
    """Read some images and bring them to the size that a net sees.

    Args:
        read: Returns an image by its index.
        images: (B,) int64 indices.
        view: How a net sees images.
        changes: What is done to them at random. Where that can be done to whole batches, only the random crop of large
            images is done here.

    Returns:
        (B, C, H, W) uint8.
    """
    batch = np.empty((len(images), *view.input_size), dtype=np.uint8)
    if changes is None:
        for row, index in enumerate(images):
            batch[row] = _pixels(_central(read(int(index)), view))
        return batch
    boxes, bicubic = draw_boxes(images, changes), draw_bicubic(images, changes)
    offsets, flips = draw_offsets(images, changes), draw_flips(images, changes)
    seeds = random_bits(changes.seed, images, Purpose.POLICY, 1)[:, 0].tolist()
    for row, index in enumerate(images):
        image = read(int(index))
        if changes.config.crop == "resized":
            image = _cropped(image, view, changes.config.crop_scale, boxes[row : row + 1], bool(bicubic[row]))
        else:
            image = _central(image, view)
        if changes.by_image:
            image = _changed(image, changes, offsets[row], bool(flips[row]), seeds[row])
        batch[row] = _pixels(image)
    return batch


@cache
def _policy_changes(config: AugmentConfig, edge: int, mean: tuple[float, ...]) -> list[Change]:
    """Build a recipe's changes, once in each process."""
    return registry.entry("augmentation", "policy")(config, edge, mean)


def _cropped(image: Image.Image, view: View, scale: float, draws: np.ndarray, bicubic: bool) -> Image.Image:
    _, height, width = view.input_size
    box = crop_boxes(draws, image.height, image.width, scale)[0]
    return crop_and_resize(image, box, height, width, "bicubic" if bicubic else "bilinear")


def _central(image: Image.Image, view: View) -> Image.Image:
    return fit(image, *view.input_size[1:], view.crop_fraction, view.interpolation)


def _changed(image: Image.Image, changes: Changes, offset: np.ndarray, flip: bool, seed: int) -> Image.Image:
    """Do what is done to single images after the random crop of large ones."""
    config, mode = changes.config, image.mode
    if config.crop == "pad":
        top, left = (int(value) - config.padding for value in offset)
        image = image.crop((left, top, left + image.width, top + image.height))  # zeros outside of the image
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)
    image = image.convert("RGB")  # policies fill corners with three numbers
    for change in _policy_changes(config, min(image.size), changes.mean):  # pyright: ignore[reportArgumentType]
        image = change(image)
    return image.convert(mode)


def _pixels(image: Image.Image) -> np.ndarray:
    return to_array(image).transpose(2, 0, 1)

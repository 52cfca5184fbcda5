"""Random changes of whole batches of images, on any device, from numbers drawn beforehand on the CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from oba.recipes import AugmentConfig

_TRIES = 10
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Draws:
    """The random numbers of one epoch, one row per image in the order of the epoch."""

    offsets: Tensor | None
    """(N, 2) int64 in 0..2*padding: first row and column of the crop in the padded image (`crop: pad`)."""
    boxes: np.ndarray | None
    """(N, 22) float64 in [0, 1): what :func:`crop_boxes` makes boxes of (`crop: resized`)."""
    flips: Tensor | None
    """(N,) bool: which images are mirrored (`flip`)."""


def draw(count: int, config: AugmentConfig, generator: torch.Generator) -> Draws:
    """Draw the random numbers of one epoch.

    Args:
        count: Number of images N.
        config: What is done to images.
        generator: Source of randomness, on the CPU.

    Returns:
        The numbers, on the CPU; ``None`` for what is not done.
    """
    offsets = boxes = flips = None
    if config.crop == "pad":
        offsets = torch.randint(0, 2 * config.padding + 1, (count, 2), generator=generator)
    elif config.crop == "resized":
        boxes = torch.rand(count, 2 * _TRIES + 2, generator=generator, dtype=torch.float64).numpy()
    if config.flip:
        flips = torch.rand(count, generator=generator) < 0.5
    return Draws(offsets, boxes, flips)


def pad_and_crop(images: Tensor, offsets: Tensor, padding: int) -> Tensor:
    """Pad images with zeros and crop each back to its size at an offset of its own.

    Every row of every crop is one slice of the padded batch's memory. All possible slices are one overlapping view,
    from which the rows are selected: copies of whole rows, with no index per pixel.

    Args:
        images: (B, C, H, W).
        offsets: (B, 2) int64 in 0..2*padding, on the images' device.
        padding: Pixels added on every side.

    Returns:
        (B, C, H, W).
    """
    batch, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4).flatten()
    slices = padded.as_strided((padded.numel() - width + 1, width), (1, 1))
    rows, columns = height + 2 * padding, width + 2 * padding
    planes = torch.arange(batch * channels, device=images.device).view(batch, channels, 1) * (rows * columns)
    lines = (offsets[:, :1] + torch.arange(height, device=images.device)) * columns + offsets[:, 1:]
    return slices.index_select(0, (planes + lines[:, None]).flatten()).view(images.shape)


def mirror(images: Tensor, flips: Tensor) -> Tensor:
    """Mirror some images left to right.

    Args:
        images: (B, C, H, W).
        flips: (B,) bool, on the images' device.

    Returns:
        (B, C, H, W).
    """
    both = torch.cat([images, images.flip(-1)])
    return both.index_select(0, torch.arange(len(images), device=images.device) + len(images) * flips)


def crop_boxes(draws: np.ndarray, height: int, width: int) -> np.ndarray:
    """Turn random numbers into boxes of 8 to 100 % of an image's area, with an aspect between 3/4 and 4/3.

    The rule is that of torchvision's ``RandomResizedCrop``: the first of ten tries that fits, else the largest
    central box of an allowed aspect.

    Args:
        draws: (N, 22) float64 in [0, 1).
        height: Height of the images in pixels.
        width: Width of the images in pixels.

    Returns:
        (N, 4) int64: top, left, height, width in pixels.
    """
    tries = draws[:, : 2 * _TRIES].reshape(-1, _TRIES, 2)
    area = height * width * (_AREA[0] + (_AREA[1] - _AREA[0]) * tries[..., 0])
    low, high = math.log(_ASPECT[0]), math.log(_ASPECT[1])
    aspect = np.exp(low + (high - low) * tries[..., 1])
    columns, rows = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (columns > 0) & (columns <= width) & (rows > 0) & (rows <= height)
    first = fits.argmax(axis=1)[:, None]
    some = fits.any(axis=1)
    rows = np.where(some, np.take_along_axis(rows, first, 1)[:, 0], min(height, round(width / _ASPECT[0])))
    columns = np.where(some, np.take_along_axis(columns, first, 1)[:, 0], min(width, round(height * _ASPECT[1])))
    spare_rows, spare_columns = height - rows, width - columns
    top = np.where(some, np.floor(draws[:, -2] * (spare_rows + 1)), spare_rows // 2)
    left = np.where(some, np.floor(draws[:, -1] * (spare_columns + 1)), spare_columns // 2)
    return np.stack([top, left, rows, columns], axis=1).astype(np.int64)


def resize_boxes(images: Tensor, boxes: Tensor) -> Tensor:
    """Cut a box out of every image and resize it to the image's size, bilinearly.

    Args:
        images: (B, C, H, W).
        boxes: (B, 4) int64 top, left, height, width in pixels, on the images' device.

    Returns:
        (B, C, H, W) float32 in the range of the images.
    """
    height, width = images.shape[-2:]
    vertical = _positions(boxes[:, 0], boxes[:, 2], height)
    horizontal = _positions(boxes[:, 1], boxes[:, 3], width)
    shape = (len(images), height, width)
    grid = torch.stack([horizontal[:, None, :].expand(shape), vertical[:, :, None].expand(shape)], dim=-1)
    return F.grid_sample(images.to(torch.float32), grid, "bilinear", "border", align_corners=False)


def _positions(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return where ``size`` output pixels lie in a box, in grid_sample's units: (B, size) in [-1, 1]."""
    steps = (torch.arange(size, device=start.device) + 0.5) / size
    inside = (steps * length[:, None] - 0.5).clamp(min=0)
    inside = torch.minimum(inside, (length[:, None] - 1).to(inside.dtype))
    return (2 * (start[:, None] + inside) + 1) / size - 1

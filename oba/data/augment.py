"""Random changes of whole batches of images, on any device, from numbers drawn on the CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from oba.data.draws import Purpose, uniforms
from oba.datasets import AugmentConfig

_TRIES = 10
_ASPECT = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Changes:
    """What is done to the images of one epoch."""

    config: AugmentConfig
    """The settings."""
    seed: int
    """What the epoch's random numbers are drawn with."""
    mean: tuple[float, ...]
    """Per channel, of pixels in [0, 1]: what a policy fills an image's corners with."""

    @property
    def by_image(self) -> bool:
        """Whether single images are changed, by worker processes, and not whole batches on the device."""
        return "policy" in self.config.augmentations


def draw_offsets(images: np.ndarray, changes: Changes) -> np.ndarray:
    """Draw where images are cropped after padding (`crop: pad`).

    Args:
        images: (B,) int64 indices of the data set.
        changes: What is done to them, and with which seed.

    Returns:
        (B, 2) int64 in 0..2*padding: first row and column in the padded image.
    """
    places = 2 * changes.config.padding + 1
    return (uniforms(changes.seed, images, Purpose.OFFSET, 2) * places).astype(np.int64)


def draw_flips(images: np.ndarray, changes: Changes) -> np.ndarray:
    """Draw which images are mirrored.

    Args:
        images: (B,) int64 indices of the data set.
        changes: What is done to them, and with which seed.

    Returns:
        (B,) bool; all false without `flip`.
    """
    if not changes.config.flip:
        return np.zeros(len(images), dtype=bool)
    return uniforms(changes.seed, images, Purpose.FLIP, 1)[:, 0] < 0.5


def draw_boxes(images: np.ndarray, changes: Changes) -> np.ndarray:
    """Draw what :func:`crop_boxes` makes boxes of (`crop: resized`).

    Args:
        images: (B,) int64 indices of the data set.
        changes: The seed.

    Returns:
        (B, 22) float64 in [0, 1).
    """
    return uniforms(changes.seed, images, Purpose.BOX, 2 * _TRIES + 2)


def draw_bicubic(images: np.ndarray, changes: Changes) -> np.ndarray:
    """Draw which images are resized by bicubic interpolation; the others bilinearly (`crop: resized`).

    Args:
        images: (B,) int64 indices of the data set.
        changes: What is done to them, and with which seed.

    Returns:
        (B,) bool.
    """
    if changes.config.interpolation != "random":
        return np.full(len(images), changes.config.interpolation == "bicubic")
    return uniforms(changes.seed, images, Purpose.RESAMPLE, 1)[:, 0] < 0.5


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
    if not batch:
        return images
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


def crop_boxes(draws: np.ndarray, height: int, width: int, scale: float = 0.08) -> np.ndarray:
    """Turn random numbers into boxes of ``scale`` to 100 % of an image's area, with an aspect between 3/4 and 4/3.

    The rule is that of torchvision's ``RandomResizedCrop``: the first of ten tries that fits, else the largest
    central box of an allowed aspect.

    Args:
        draws: (N, 22) float64 in [0, 1).
        height: Height of the images in pixels.
        width: Width of the images in pixels.
        scale: The least area, as a fraction of the image's.

    Returns:
        (N, 4) int64: top, left, height, width in pixels.
    """
    tries = draws[:, : 2 * _TRIES].reshape(-1, _TRIES, 2)
    area = height * width * (scale + (1 - scale) * tries[..., 0])
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


def resize_boxes(images: Tensor, boxes: Tensor, bicubic: Tensor) -> Tensor:
    """Cut a box out of every image and resize it to the image's size, without antialiasing.

    Args:
        images: (B, C, H, W) with values 0 to 255.
        boxes: (B, 4) int64 top, left, height, width in pixels, on the images' device.
        bicubic: (B,) bool, on the CPU: which are interpolated bicubically; the others bilinearly.

    Returns:
        (B, C, H, W) float32 in the range of the images.
    """
    height, width = images.shape[-2:]
    vertical = _positions(boxes[:, 0], boxes[:, 2], height)
    horizontal = _positions(boxes[:, 1], boxes[:, 3], width)
    shape = (len(images), height, width)
    grid = torch.stack([horizontal[:, None, :].expand(shape), vertical[:, :, None].expand(shape)], dim=-1)
    images = images.to(torch.float32)
    if not bicubic.any():
        return F.grid_sample(images, grid, "bilinear", "border", align_corners=False)
    if bicubic.all():
        return F.grid_sample(images, grid, "bicubic", "border", align_corners=False).clamp(0, 255)
    resized = torch.empty_like(images)
    for chosen, mode in ((bicubic, "bicubic"), (~bicubic, "bilinear")):
        rows = chosen.nonzero()[:, 0].to(images.device)
        resized[rows] = F.grid_sample(images[rows], grid[rows], mode, "border", align_corners=False).clamp(0, 255)
    return resized


def _positions(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return where ``size`` output pixels lie in a box, in grid_sample's units: (B, size) in [-1, 1]."""
    steps = (torch.arange(size, device=start.device) + 0.5) / size
    inside = (steps * length[:, None] - 0.5).clamp(min=0)
    inside = torch.minimum(inside, (length[:, None] - 1).to(inside.dtype))
    return (2 * (start[:, None] + inside) + 1) / size - 1

"""Where images come from, batch by batch: the device's memory, or processes that read them one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from oba import registry
from oba.data.augment import Changes, crop_boxes, draw_bicubic, draw_boxes, resize_boxes
from oba.data.changes import View, view_batch
from oba.data.store import Prepared
from oba.data.workers import Workers
from oba.errors import DataError

Item = tuple[np.ndarray, Changes | None]


class Pixels(Protocol):
    """Where images come from."""

    def stream(self, batches: Sequence[np.ndarray], changes: Changes | None) -> Iterator[Tensor]:
        """Yield batches of images with values 0 to 255 in the size that a net sees.

        Args:
            batches: (B,) int64 indices of the data set for each batch; B may be 0.
            changes: What is done at random: all of it where they are changed ``by_image``, else only ``crop: resized``.
        """
        ...


class ArrayPixels:
    """All images of a data set in the device's memory."""

    def __init__(self, images: np.ndarray, device: torch.device) -> None:
        """Copy images, (N, H, W, C) uint8, to the device."""
        self.images = torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C")).to(device)
        _, height, width, channels = images.shape
        self._workers = _workers(partial(_picture, images), View((channels, height, width)), device)

    def stream(self, batches: Sequence[np.ndarray], changes: Changes | None) -> Iterator[Tensor]:
        """Yield batches of (B, C, H, W) uint8, or float32 with values 0 to 255 where boxes were cut."""
        if changes is not None and changes.by_image:
            yield from self._workers.stream(_items(batches, changes))
            return
        device, (height, width) = self.images.device, self.images.shape[-2:]
        order = torch.from_numpy(np.concatenate(batches)).to(device)
        for indices, chosen in zip(batches, order.split([len(batch) for batch in batches]), strict=True):
            images = self.images.index_select(0, chosen)
            if changes is not None and changes.config.crop == "resized":
                boxes = crop_boxes(draw_boxes(indices, changes), height, width, changes.config.crop_scale)
                bicubic = torch.from_numpy(draw_bicubic(indices, changes))
                images = resize_boxes(images, torch.from_numpy(boxes).to(device), bicubic)
            yield images


class FilePixels:
    """Images that are read from their files whenever they are needed."""

    def __init__(self, prepared: Prepared, device: torch.device) -> None:
        """Remember the files of a data set with ``storage="files"``."""
        if prepared.images is not None or prepared.files is None:
            raise ValueError("the data set is stored as arrays")
        info = prepared.info
        view = View(info.input_size, info.crop_fraction, info.interpolation)
        self._workers = _workers(partial(prepared.files.read, channels=info.input_size[0]), view, device)

    def stream(self, batches: Sequence[np.ndarray], changes: Changes | None) -> Iterator[Tensor]:
        """Yield batches of (B, C, H, W) uint8; raise DataError for a bad image."""
        yield from self._workers.stream(_items(batches, changes))


class _Batches(Dataset):
    """Batches of images; an item is the images' indices and what is done to them."""

    def __init__(self, read: Callable[[int], Image.Image], view: View) -> None:
        self.read = read
        self.view = view

    def __getitem__(self, item: Item) -> Tensor | DataError:
        """Return (B, C, H, W) uint8, or the error: raised in a worker, it would become a traceback of many lines."""
        try:
            return torch.from_numpy(view_batch(self.read, item[0], self.view, item[1]))
        except DataError as error:
            return DataError(str(error))


def _workers(read: Callable[[int], Image.Image], view: View, device: torch.device) -> Workers[Item]:
    return Workers(_Batches(read, view), device)


def _items(batches: Sequence[np.ndarray], changes: Changes | None) -> Iterator[Item]:
    """Return what workers are asked for; libraries that they need are imported before they are forked."""
    if changes is not None and changes.by_image:
        registry.load("augmentation", "policy")
    return ((batch, changes) for batch in batches)


def _picture(images: np.ndarray, index: int) -> Image.Image:
    """Return one of (N, H, W, C) uint8 images."""
    image = np.asarray(images[index])
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)

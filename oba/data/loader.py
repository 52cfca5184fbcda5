"""Image files as batches, read by the workers of a torch DataLoader."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from oba.data.augment import crop_boxes
from oba.data.images import crop_and_resize, fit, to_array
from oba.data.store import FileList, Prepared, usable_cpus
from oba.errors import DataError

MAX_WORKERS = 8
"""Reading processes at most; how many there are changes no batch."""


class _Files(Dataset):
    """Batches of image files; an item is a batch, named by its images' indices and random numbers."""

    def __init__(self, files: FileList, input_size: tuple[int, int, int]) -> None:
        self.files = files
        self.input_size = input_size

    def __getitem__(self, batch: tuple[np.ndarray, np.ndarray | None]) -> Tensor | DataError:
        """Return (B, C, H, W) uint8, or the error: raised in a worker, it would become a traceback of many lines."""
        indices, draws = batch
        channels, height, width = self.input_size
        rows = np.empty((len(indices), height, width, channels), dtype=np.uint8)
        try:
            for row, index in enumerate(indices):
                image = self.files.read(int(index), channels)
                rows[row] = to_array(self._cut(image, None if draws is None else draws[row : row + 1]))
        except DataError as error:
            return DataError(str(error))
        return torch.from_numpy(np.ascontiguousarray(rows.transpose(0, 3, 1, 2)))

    def _cut(self, image: Image.Image, draws: np.ndarray | None) -> Image.Image:
        _, height, width = self.input_size
        if draws is None:
            return fit(image, height, width)
        return crop_and_resize(image, crop_boxes(draws, image.height, image.width)[0], height, width)


class FilePixels:
    """Images that are read from their files whenever they are needed."""

    def __init__(self, prepared: Prepared, device: torch.device) -> None:
        """Remember the files of a data set with ``storage="files"``."""
        if prepared.images is not None or prepared.files is None:
            raise ValueError("the data set is stored as arrays")
        self._files = _Files(prepared.files, prepared.info.input_size)
        self._device = device

    def stream(self, order: Tensor, batch_size: int, draws: np.ndarray | None) -> Iterator[Tensor]:
        """Yield batches of (B, C, H, W) uint8, read by up to eight processes; raise DataError for a bad image."""
        indices = order.numpy()
        batches = [
            (indices[start : start + batch_size], None if draws is None else draws[start : start + batch_size])
            for start in range(0, len(order), batch_size)
        ]
        loader = DataLoader(
            self._files,
            batch_size=None,
            sampler=batches,
            num_workers=min(MAX_WORKERS, usable_cpus(), len(batches)) if len(batches) > 1 else 0,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator(),  # else the loader would draw from, and so change, the global random state
        )
        with warnings.catch_warnings():
            # Workers only run PIL and numpy, so that forking beside torch's threads is safe.
            warnings.filterwarnings("ignore", message=r".*multi-threaded.*fork", category=DeprecationWarning)
            stream = iter(loader)
        for images in stream:
            if isinstance(images, DataError):
                raise images
            yield images.to(self._device, non_blocking=True)

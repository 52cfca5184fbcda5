"""Small image folders and prepared data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oba.data.prepare import prepare
from oba.datasets import DataConfig


def random_picture(seed: int, height: int, width: int, mode: str) -> Image.Image:
    """Return an image of random pixels."""
    shape = (height, width) if mode == "L" else (height, width, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture
def picture() -> Callable[[int, int, int, str], Image.Image]:
    """Return :func:`random_picture`."""
    return random_picture


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an image folder: ``{"train/cat": 3, ...}`` is folders and their numbers."""

    def make(
        counts: dict[str, int],
        *,
        size: tuple[int, int] = (12, 12),
        mode: str = "RGB",
        suffix: str = ".png",
        name: str = "images",
    ) -> Path:
        root = tmp_path / name
        seed = 0
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True)
            for number in range(count):
                random_picture(seed, *size, mode).save(root / folder / f"{number:03}{suffix}")
                seed += 1
        return root

    return make


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the prepared digits; not to be changed."""
    directory = tmp_path_factory.mktemp("digits")
    prepare(DataConfig(name="digits"), directory)
    return directory

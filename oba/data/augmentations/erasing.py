"""Random erasing of normalised batches, by timm's own code, seeded for every image."""

from __future__ import annotations

import random

import numpy as np
import torch
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from oba.data.augment import Changes
from oba.data.draws import Purpose, random_bits, uniforms


def erase(batch: Tensor, images: np.ndarray, changes: Changes) -> None:
    """Erase a rectangle of some images, in place.

    The global random states are left as they were. Rectangles are the same on every device; the noise that fills them
    is of the device's own generator.

    Args:
        batch: (B, C, H, W), normalised.
        images: (B,) int64 indices.
        changes: How likely, with what, and with which seed.
    """
    config, device = changes.config, batch.device
    chosen = np.flatnonzero(uniforms(changes.seed, images, Purpose.ERASE, 1)[:, 0] < config.erase)
    seeds = random_bits(changes.seed, images[chosen], Purpose.ERASE, 2)[:, 1].tolist()
    erasing = RandomErasing(probability=1.0, mode=config.erase_mode, device=str(device))
    state = random.getstate()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for row, seed in zip(chosen.tolist(), seeds, strict=True):
            random.seed(seed)
            if config.erase_mode == "pixel":
                torch.manual_seed(seed)
            erasing(batch[row])
    random.setstate(state)


make = erase

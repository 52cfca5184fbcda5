"""Mixup and CutMix, by timm, with random numbers of our own seeds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from timm.data.mixup import Mixup, mixup_target
from torch import Tensor

from oba.recipes import TrainConfig


class Mixer:
    """Mixes the images of a batch in pairs: the first with the last, and so on; one draw for the whole batch."""

    def __init__(self, config: TrainConfig, classes: int) -> None:
        """Prepare timm's Mixup.

        Args:
            config: ``mixup``, ``cutmix``, ``mix_probability``, ``label_smoothing``.
            classes: Number of classes C.
        """
        self._mixup = Mixup(
            mixup_alpha=config.mixup,
            cutmix_alpha=config.cutmix,
            prob=config.mix_probability,
            label_smoothing=config.label_smoothing,
            num_classes=classes,
        )

    def __call__(self, inputs: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Mix a batch. Of an odd number of images the last one stays as it is.

        Args:
            inputs: (B, C, H, W) with B of at least 2; overwritten.
            targets: (B,) int64.
            seed: Of what is drawn: the same gives the same.

        Returns:
            The images, and their mixed and smoothed targets (B, classes) float32.
        """
        even = len(targets) - len(targets) % 2
        with _seeded_numpy(seed):
            _, wanted = self._mixup(inputs[:even], targets[:even])
        if even < len(targets):
            smoothing, classes = self._mixup.label_smoothing, self._mixup.num_classes
            wanted = torch.cat([wanted, mixup_target(targets[even:], classes, 1.0, smoothing)])
        return inputs, wanted


make = Mixer


@contextmanager
def _seeded_numpy(seed: int) -> Iterator[None]:
    """Seed numpy's global random state, which timm draws from, and restore the caller's."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)

"""Learning rates as a function of time."""

from __future__ import annotations

import math

from oba.recipes import TrainConfig


def learning_rate(config: TrainConfig, epochs_done: float) -> float:
    """Return the learning rate after a number of epochs, which need not be whole.

    ``step``: ``lr · gamma^m`` with m the milestones reached. ``cosine``: from ``lr`` at the end of the
    warm-up to zero after the last epoch, ``lr · (1 + cos(π t)) / 2`` (Loshchilov and Hutter, 2017, eq. 5,
    without restarts). Both are multiplied by a linear rise from zero over the warm-up epochs.

    Args:
        config: ``lr``, ``epochs``, ``schedule``, ``milestones``, ``gamma``, ``warmup_epochs``.
        epochs_done: Epochs since the start, 0 to ``epochs``.

    Returns:
        The learning rate.
    """
    warmup = config.warmup_epochs
    rise = min(1.0, epochs_done / warmup) if warmup else 1.0
    if config.schedule == "step":
        reached = sum(epochs_done >= milestone for milestone in config.milestones)
        return config.lr * rise * config.gamma**reached
    past = max(0.0, epochs_done - warmup) / (config.epochs - warmup)
    return config.lr * rise * (1 + math.cos(math.pi * past)) / 2

"""Learning rates as a function of time."""

from __future__ import annotations

import math

from oba.recipes import TrainConfig


def learning_rate(config: TrainConfig, epochs_done: float) -> float:
    """Return the learning rate after a number of epochs, which need not be whole.

    ``step``: ``lr · gamma^m`` with m the milestones reached. ``cosine``: from ``lr`` at the end of the warm-up to
    ``min_lr`` after the last epoch, ``min_lr + (lr - min_lr) · (1 + cos(π t)) / 2`` (Loshchilov and Hutter, 2017,
    eq. 5, without restarts). During the warm-up epochs the rate rises linearly from ``warmup_lr`` to the schedule's.

    Args:
        config: ``lr``, ``epochs``, ``schedule``, ``milestones``, ``gamma``, ``min_lr``, ``warmup_epochs``,
            ``warmup_lr``.
        epochs_done: Epochs since the start, 0 to ``epochs``.

    Returns:
        The learning rate.
    """
    warmup = config.warmup_epochs
    rise = min(1.0, epochs_done / warmup) if warmup else 1.0
    if config.schedule == "step":
        reached = sum(epochs_done >= milestone for milestone in config.milestones)
        rate = config.lr * config.gamma**reached
    else:
        past = max(0.0, epochs_done - warmup) / (config.epochs - warmup)
        rate = config.min_lr + (config.lr - config.min_lr) * (1 + math.cos(math.pi * past)) / 2
    return config.warmup_lr * (1 - rise) + rate * rise

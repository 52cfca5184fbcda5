"""The moving average of a net's weights and statistics, by timm."""

from __future__ import annotations

from timm.utils.model_ema import ModelEmaV3
from torch import nn

from oba.recipes import EmaConfig


def make(model: nn.Module, config: EmaConfig) -> ModelEmaV3:
    """Return the average of a net, which starts as a copy of it.

    Args:
        model: The net, on its device.
        config: How much of the average stays at each step.

    Returns:
        timm's average; ``module`` is the net with the averaged weights.
    """
    return ModelEmaV3(model, decay=config.decay, use_warmup=config.warmup)

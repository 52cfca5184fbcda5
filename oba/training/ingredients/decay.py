"""Which parameters decay: not biases, norms, or what the model exempts; timm's rule."""

from __future__ import annotations

from typing import Any

from timm.optim import param_groups_weight_decay  # pyright: ignore[reportPrivateImportUsage]
from torch import nn


def make(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Divide the trainable parameters of a net by whether they decay.

    Args:
        model: The net; ``no_weight_decay()``, where it has it, names further parameters that do not.
        weight_decay: Of those that do.

    Returns:
        Groups for an optimizer.
    """
    exempt: Any = getattr(model, "no_weight_decay", set)
    return param_groups_weight_decay(model, weight_decay, no_weight_decay_list=exempt())

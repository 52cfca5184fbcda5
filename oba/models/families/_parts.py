"""What this project's own nets share."""

from __future__ import annotations

from torch import nn


def classifier(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the layers that tell the classes apart.

    Args:
        model: One of these nets.

    Returns:
        The one linear layer.
    """
    return ("fc",)


def scaled(channels: int, width: float) -> int:
    """Return a channel count times a width factor, rounded half up, at least 1.

    Args:
        channels: Channels of the net of width 1.
        width: The factor.

    Returns:
        The number of channels.
    """
    return max(1, int(channels * width + 0.5))


def initialise(model: nn.Module) -> None:
    """Draw convolution weights as He et al. (2015), eq. 14, for the fan of the outputs; other layers keep torch's.

    Args:
        model: The net; changed in place, from torch's global random state.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

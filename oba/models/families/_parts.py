"""What this project's own nets share."""

from __future__ import annotations

from torch import nn

from oba.errors import ModelError


def refuse_pretrained(name: str, pretrained: bool) -> None:
    """Refuse to look for weights that nobody publishes.

    Args:
        name: The net's name, for the message.
        pretrained: Whether they are asked for.

    Raises:
        ModelError: If they are.
    """
    if pretrained:
        raise ModelError(f"{name}: has no pretrained weights; allowed: timm/<name>, torchvision/<name>, a weight file")


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

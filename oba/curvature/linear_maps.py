"""Linear maps of activations by a weight, with both transposes: Linear layers and convolutions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Flows = tuple[Tensor | None, Tensor | None]
"""What flows back to an input and to a weight."""
_CONVOLUTIONS: dict[Any, int] = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}


class LinearMap:
    """A Linear layer's map of activations of shape (N, ..., channels).

    Attributes:
        channels: Dimension of the activations that holds the channels.
    """

    channels = -1

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``W*X + b``."""
        return F.linear(x, weight, bias)

    def backward(self, gradient: Tensor, x: Tensor, weight: Tensor, moves: bool, of_weight: bool) -> Flows:
        """Return ``WᵀG`` in the shape of X if X moves, and ``G ⊗ X`` in the shape of W if wanted.

        Of a tensor whose values a wanted product does not use, only the shape counts: X for the first, W for the
        second.
        """
        product = gradient.flatten(0, -2).mT @ x.flatten(0, -2) if of_weight else None
        return gradient @ weight if moves else None, product


class ConvolutionMap(LinearMap):
    """A convolution's map of activations of shape (N, channels, ...)."""

    channels = 1

    def __init__(self, function: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> None:
        """Take the arguments that follow the bias of ``torch.conv1d``, ``torch.conv2d`` or ``torch.conv3d``."""
        self._function = function
        self._settings = [_each(value, _CONVOLUTIONS[function]) for value in (stride, padding, dilation)]
        self._groups = groups

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``W*X + b``."""
        return self._function(x, weight, bias, *self._settings, self._groups)

    def backward(self, gradient: Tensor, x: Tensor, weight: Tensor, moves: bool, of_weight: bool) -> Flows:
        """Return both transposed products, see :class:`LinearMap`."""
        if not (moves or of_weight):
            return None, None
        no_output_padding = [0] * len(self._settings[0])
        flow, product, _ = torch.ops.aten.convolution_backward(
            *(gradient, x, weight, None, *self._settings, False, no_output_padding, self._groups),
            (moves, of_weight, False),
        )
        return flow, product


def _each(value: Any, dimensions: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * dimensions if len(values) == 1 else values


def linear_map_of(function: Any, x: Tensor, *settings: Any, **options: Any) -> LinearMap | None:
    """Return the map of a call ``function(x, weight, bias, *settings, **options)``.

    It is None for anything but a Linear or an ordinary convolution of a batch: transposed convolutions, padding by
    name, a single example.
    """
    if function is F.linear:
        return LinearMap() if x.dim() > 1 else None
    dimensions = _CONVOLUTIONS.get(function)
    if (
        dimensions is None
        or x.dim() != dimensions + 2
        or any(isinstance(s, str) for s in (*settings, *options.values()))
    ):
        return None
    return ConvolutionMap(function, *settings, **options)

"""Inputs of Conv and Linear layers as matrices, so that each layer is ``Y = W X + b`` on columns channel × kernel."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oba.errors import ModelError

MatrixLayer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
"""Layers that are one matrix (one for each group) on their unfolded inputs."""
_TOLERANCE = 1e-3
"""Largest difference between a layer's output and ``W X + b``, relative to the sum of the absolute products."""


def matrix_layer(model: nn.Module, name: str) -> MatrixLayer:
    """Return a layer by name, or refuse it.

    Args:
        model: The network.
        name: The layer's name, as in ``named_modules()``.

    Returns:
        The layer.

    Raises:
        ModelError: If it is neither a Conv1d, Conv2d or Conv3d nor a Linear layer.
    """
    layer = model.get_submodule(name)
    if not isinstance(layer, MatrixLayer):
        raise ModelError(f"layer {name!r} is a {type(layer).__name__}; only Conv1d, Conv2d, Conv3d and Linear unfold")
    return layer


def group_count(layer: MatrixLayer) -> int:
    """Return the number of groups of a layer, 1 for Linear."""
    return 1 if isinstance(layer, nn.Linear) else layer.groups


def weight_matrix(layer: MatrixLayer) -> Tensor:
    """Return a layer's weight as one matrix for each group.

    ``matrix.reshape(layer.weight.shape)`` is the way back.

    Args:
        layer: The layer.

    Returns:
        Float64, shape (groups, outputs of a group, columns): columns are the group's input channels × kernel positions,
        the channel being the slower index. The bias has the shape (groups, outputs of a group) beside it.
    """
    weight = layer.weight.detach().double()
    return weight.reshape(group_count(layer), weight.shape[0] // group_count(layer), -1)


def input_columns(layer: MatrixLayer, channels: Tensor) -> Tensor:
    """Return the columns of a layer's weight matrix that belong to input channels.

    Args:
        layer: The layer.
        channels: Input channels, int64, shape (..., channels).

    Returns:
        Columns, numbered through all groups, shape (..., channels · kernel positions).
    """
    kernel = layer.weight[0, 0].numel()
    return (channels[..., None] * kernel + torch.arange(kernel, device=channels.device)).flatten(-2)


def windows(layer: MatrixLayer, x: Tensor, channels: Tensor | None = None) -> Tensor:
    """Return the windows that a layer's weight sees, as a view of the padded inputs: nothing is unfolded yet.

    Args:
        layer: The layer.
        x: Its input: (images, channels, ...) for a convolution, (images, ..., channels) for Linear.
        channels: The input channels that are wanted, of a layer with one group; None for all.

    Returns:
        Shape (groups, images, positions, further dimensions of positions, channels of a group, kernel dimensions).
    """
    if isinstance(layer, nn.Linear):
        x = x if channels is None else x[..., channels]
        return x.reshape(1, len(x), -1, x.shape[-1])
    x = x if channels is None else x[:, channels]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode)
    dimensions = len(layer.kernel_size)
    for axis in range(dimensions):
        dilation = layer.dilation[axis]
        x = x.unfold(2 + axis, dilation * (layer.kernel_size[axis] - 1) + 1, layer.stride[axis])[..., ::dilation]
    # (images, channels, positions, kernel) -> (groups, images, positions, channels, kernel)
    return x.unflatten(1, (layer.groups, -1)).movedim(1, 0).movedim(2, 2 + dimensions)


def output_windows(layer: MatrixLayer, y: Tensor, groups: int) -> Tensor:
    """Return a layer's outputs in the order of :func:`windows`.

    Args:
        layer: The layer, for which dimension holds the channels.
        y: Its output, or some channels of it.
        groups: Number of groups into which the channels of ``y`` fall.

    Returns:
        Shape (groups, images, positions, further dimensions of positions, outputs of a group), a view where possible.
    """
    if isinstance(layer, nn.Linear):
        return y.reshape(1, len(y), -1, y.shape[-1])
    return y.unflatten(1, (groups, -1)).movedim(1, 0).movedim(2, -1)


def rows(view: Tensor, positions: int) -> Tensor:
    """Unfold a part of :func:`windows` or :func:`output_windows`, with a single copy.

    Args:
        view: The part.
        positions: Number of dimensions of positions.

    Returns:
        Float64, shape (groups, images · positions, columns).
    """
    copied = torch.empty(view.shape, dtype=torch.float64, device=view.device).copy_(view)
    return copied.flatten(1, 1 + positions).flatten(2)


def parts(images: int, lines: int, line_bytes: int, limit: int) -> Iterator[tuple[slice, slice]]:
    """Cut a batch into parts of whole images, or of lines (first dimension of positions) where one image is too large.

    Args:
        images: Number of images.
        lines: Number of lines of an image.
        line_bytes: Bytes of one unfolded line.
        limit: Largest number of bytes of a part; a single line may exceed it.

    Yields:
        The slices of images and of lines.
    """
    many = max(1, limit // (lines * line_bytes))
    some = min(lines, max(1, limit // line_bytes))
    for image in range(0, images, many):
        for line in range(0, lines, some):
            yield slice(image, image + many), slice(line, line + some)


def check_matrix(name: str, layer: MatrixLayer, x: Tensor, y: Tensor) -> None:
    """Refuse a layer that computes something else than its own weight says, such as a subclass that pads by itself.

    Args:
        name: The layer's name.
        layer: The layer.
        x: An input.
        y: What the layer made of it; the first line of the first image is compared.

    Raises:
        ModelError: If the outputs differ from ``W X + b``.
    """
    inside, outside = windows(layer, x), output_windows(layer, y, group_count(layer))
    positions = outside.dim() - 3
    same = inside.shape[: 2 + positions] == outside.shape[: 2 + positions]
    if same:
        seen, actual = rows(inside[:, :1, :1], positions), rows(outside[:, :1, :1], positions)
        weight = weight_matrix(layer)
        bias = 0.0 if layer.bias is None else layer.bias.detach().double().reshape(len(weight), 1, -1)
        scale = seen.abs() @ weight.abs().mT + abs(bias)
        # Written so that what is not finite passes: that is another error.
        same = not bool(((actual - seen @ weight.mT - bias).abs() > _TOLERANCE * scale).any())
    if not same:
        raise ModelError(
            f"layer {name!r} ({type(layer).__name__}) does not compute W X + b of its own weight and padding:"
            " it cannot be refitted; Conv1d, Conv2d, Conv3d and Linear with PyTorch's own forward can"
        )

"""Sums of scores over the output and input channels of Conv and Linear layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from oba.curvature import parameter_layers
from oba.errors import ScoreError
from oba.structures import IN, OUT, StructureGroup

Channels = tuple[str, str]
"""A layer's name and an axis, ``"out"`` or ``"in"``: the key of one sum for each channel."""


@dataclass(frozen=True)
class LayerSlice:
    """What the structures of a group own of one axis of a Conv or Linear layer.

    Attributes:
        layer: Name of the layer.
        axis: ``"out"`` or ``"in"``.
        indices: Channels, shape (structures, channels of each), int64, on the layer's device.
    """

    layer: str
    axis: str
    indices: Tensor


def layer_slices(model: nn.Module, group: StructureGroup) -> list[LayerSlice]:
    """Return a group's slices of Conv and Linear layers; slices of norms carry no score.

    Args:
        model: The model that the group speaks of.
        group: A group of structures.

    Returns:
        The slices on the axes ``"out"`` and ``"in"``, in the group's order.

    Raises:
        ScoreError: If a layer is missing or of another kind, or an index does not exist.
    """
    layers = parameter_layers(model)
    slices = []
    for entry in group.on_axis(OUT, IN):
        layer = layers.get(entry.layer)
        where = f"group {group.name!r}: layer {entry.layer!r}"
        if layer is None or isinstance(layer, _ConvTransposeNd):
            raise ScoreError(f"{where} cannot be scored; allowed: Conv and Linear layers of the model")
        size = channels_of(layer, entry.axis)
        wrong = [index for row in entry.indices for index in row if not 0 <= index < size]
        if wrong:
            raise ScoreError(f"{where} has {size} {entry.axis} channels; index {wrong[0]} is out of range")
        indices = torch.tensor(entry.indices, dtype=torch.int64, device=layer.weight.device)
        slices.append(LayerSlice(entry.layer, entry.axis, indices))
    return slices


def channels_of(layer: _ConvNd | nn.Linear, axis: str) -> int:
    """Return the number of output or input channels (features) of a Conv or Linear layer.

    Args:
        layer: The layer.
        axis: ``"out"`` or ``"in"``.

    Returns:
        Their number; for a grouped convolution those of all groups.
    """
    return layer.weight.shape[0] if axis == OUT else layer.weight.shape[1] * groups_of(layer)


def groups_of(layer: _ConvNd | nn.Linear) -> int:
    """Return the number of groups of a convolution, 1 for a Linear.

    Args:
        layer: A Conv or Linear layer.

    Returns:
        The number of groups.
    """
    return layer.groups if isinstance(layer, _ConvNd) else 1


def channel_sums(
    model: nn.Module, scores: Mapping[str, Tensor], channels: Iterable[Channels]
) -> dict[Channels, Tensor]:
    """Add up parameter scores over channels.

    An output channel is a row of the weight and its element of the bias. An input channel is a column of the weight;
    in a convolution with g groups and I inputs, channel i is column ``i mod (I/g)`` of the rows of group
    ``i // (I/g)``.

    Args:
        model: The model.
        scores: Scores in each parameter's shape, keyed like ``named_parameters()``.
        channels: The sums that are wanted.

    Returns:
        Sums in float64, shape (number of channels,), for every wanted pair of which a parameter has a score.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    layers = parameter_layers(model)
    sums: dict[Channels, Tensor] = {}
    for name, axis in channels:
        layer = layers[name]
        weight = scores.get(names.get(id(layer.weight), ""))
        bias = scores.get(names.get(id(layer.bias), ""))
        parts = []
        if weight is not None and axis == OUT:
            parts.append(weight.double().flatten(1).sum(1))
        if weight is not None and axis == IN:
            groups = groups_of(layer)
            by_group = weight.double().reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
            parts.append(by_group.sum((1, 3)).flatten())
        if bias is not None and axis == OUT:
            parts.append(bias.double())
        if parts:
            sums[name, axis] = sum(parts[1:], parts[0])
    return sums

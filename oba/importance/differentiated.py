"""Scores of the form θ ⊙ (a derivative of the loss), and their sums over channels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from oba.curvature import parameter_layers
from oba.importance.batches import Batch
from oba.importance.slices import Channels, channel_sums, channels_of


class ChannelSums(Protocol):
    """Differentiates on a batch; returns sums over channels, and derivatives of parameters used in other ways."""

    def __call__(
        self,
        model: nn.Module,
        inputs: Tensor,
        loss: Callable[[Any], Tensor],
        names: Sequence[str],
        wanted: Collection[Channels],
        /,
    ) -> tuple[Mapping[Channels, Tensor], Mapping[str, Tensor]]:
        """Differentiate, see for example :func:`oba.curvature.channel_curvature`."""
        ...


def times_values(model: nn.Module, derivatives: dict[str, Tensor]) -> dict[str, Tensor]:
    """Multiply derivatives with the parameters.

    Args:
        model: The model.
        derivatives: Keyed like ``named_parameters()``, in each parameter's shape; emptied, so that large nets are not
            in memory once more.

    Returns:
        θ ⊙ derivative for each name.
    """
    parameters = dict(model.named_parameters())
    return {name: parameters[name].detach() * derivatives.pop(name) for name in list(derivatives)}


def differentiated_sums(
    model: nn.Module, channels: Collection[Channels], batch: Batch, names: Sequence[str], differentiate: ChannelSums
) -> dict[Channels, Tensor]:
    """Add up scores over channels.

    Args:
        model: The model.
        channels: Pairs of a layer's name and ``"out"`` or ``"in"``.
        batch: The examples.
        names: The parameters that have scores, as in ``named_parameters()``.
        differentiate: The derivative.

    Returns:
        Signed sums, shape (number of channels,), float64, for each pair of which a parameter has a score.
    """
    of_parameter = {id(parameter): name for name, parameter in model.named_parameters()}
    layers, scored = parameter_layers(model), set(names)
    owned = {
        (layer, axis): (of_parameter.get(id(layers[layer].weight), ""), of_parameter.get(id(layers[layer].bias), ""))
        for layer, axis in channels
    }
    wanted = {(weight, axis) for (_, axis), (weight, _) in owned.items()}
    sums, others = differentiate(model, batch.inputs, batch.loss_of, names, wanted)
    scores = channel_sums(model, times_values(model, dict(others)), channels)
    for (layer, axis), (weight, bias) in owned.items():
        if weight in scored or (axis == "out" and bias in scored):
            empty = layers[layer].weight.new_zeros(channels_of(layers[layer], axis), dtype=torch.float64)
            parts = [scores.get((layer, axis)), sums.get((weight, axis)), sums.get((bias, axis))]
            scores[layer, axis] = sum((part for part in parts if part is not None), empty)
    return scores

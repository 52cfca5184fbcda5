r"""Optimal Brain Apoptosis ``oba`` (Sun et al., ICLR 2025, Algorithm 1): curvature with frozen Jacobians.

.. math:: s_i = \theta_i \lambda_{\theta_i}

with the curvature adjoints λ of :mod:`oba.curvature.adjoints`: of the Hessian-vector product ``θ ⊙ Hθ`` it keeps the
cross terms between the two factors of every product (weight and input, query and key, attention and value, gates) and
holds all other Jacobians, and the curvature of the loss, constant.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from oba.curvature import channel_curvature, curvature_adjoints, directed_parameters, parameter_layers
from oba.importance.batches import Batch
from oba.importance.criterion import Criterion, Options
from oba.importance.slices import Channels, channel_sums, channels_of


class Oba(Criterion):
    """``θ_i λ_i`` on the weights and biases of Conv, Linear and attention projections, trainable or not."""

    ignores_scale = True

    def __init__(self, options: Options) -> None:
        """Take the settings.

        Args:
            options: Settings of all criteria; none is used.
        """
        super().__init__(options)
        self._directed: list[str] | None = None

    def parameter_scores(self, model: nn.Module, batch: Batch | None) -> dict[str, Tensor]:
        """Score every weight and bias of parameter layers on one batch.

        Args:
            model: The model, in the mode for scoring.
            batch: The examples.

        Returns:
            Signed scores in each parameter's shape.
        """
        assert batch is not None
        return _times_values(model, curvature_adjoints(model, batch.inputs, batch.loss_of, self._names(model, batch)))

    def channel_scores(
        self, model: nn.Module, channels: Collection[Channels], batch: Batch | None
    ) -> Mapping[Channels, Tensor]:
        """Add up the scores of each channel of some layers, without gradients of weights where possible.

        Args:
            model: The model, in the mode for scoring.
            channels: Pairs of a layer's name and ``"out"`` or ``"in"``.
            batch: The examples.

        Returns:
            Signed sums, shape (number of channels,), for each pair.
        """
        assert batch is not None
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        layers = parameter_layers(model)
        weights = {(layer, axis): names.get(id(layers[layer].weight), "") for layer, axis in channels}
        wanted = {(weight, axis) for (_, axis), weight in weights.items()}
        directed = self._names(model, batch)
        sums, others = channel_curvature(model, batch.inputs, batch.loss_of, directed, wanted)
        scores = channel_sums(model, _times_values(model, others), channels)
        for (layer, axis), weight in weights.items():
            bias = names.get(id(layers[layer].bias), "")
            empty = layers[layer].weight.new_zeros(channels_of(layers[layer], axis), dtype=torch.float64)
            parts = [scores.get((layer, axis)), sums.get((weight, axis)), sums.get((bias, axis))]
            scores[layer, axis] = sum((part for part in parts if part is not None), empty)
        return scores

    def _names(self, model: nn.Module, batch: Batch) -> list[str]:
        """Return the names of the parameters that carry a direction, found once."""
        if self._directed is None:
            self._directed = directed_parameters(model, batch.inputs[:2])
        return self._directed


def _times_values(model: nn.Module, adjoints: Mapping[str, Tensor]) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    return {name: parameters[name].detach() * adjoint for name, adjoint in adjoints.items()}


CRITERION = Oba

r"""Sums of θ ⊙ ∇L over channels without a gradient of any weight.

For ``Z = W*X + b`` and the gradient δ that arrives at Z, the sums of ``θ ⊙ ∇L`` over an output channel (with its bias)
and an input channel are

.. math:: \langle\delta_c, Z_c\rangle, \qquad \langle W^T\delta, X\rangle_c

so that a forward pass and a backward pass to the activations are enough: 2 units, where a gradient costs 3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from oba.curvature.channel_sums import ChannelKey, LayerNode
from oba.curvature.layer_mode import LayerMode
from oba.curvature.linear_maps import LinearMap
from oba.curvature.passes import Loss, channel_derivatives


def channel_gradients(
    model: nn.Module,
    inputs: Tensor,
    loss: Loss,
    names: Iterable[str],
    wanted: Collection[ChannelKey],
) -> tuple[dict[ChannelKey, Tensor], dict[str, Tensor]]:
    """Return sums of θ ⊙ ∇L over channels, where no gradient of a weight is needed.

    Args:
        model: The network, in the mode in which it is to be differentiated.
        inputs: One batch, shape (N, ...).
        loss: Maps the model's outputs to the scalar L.
        names: The parameters that are differentiated, as in ``named_parameters()``.
        wanted: Names of weights with ``"out"`` or ``"in"``: the channels whose sums are wanted.

    Returns:
        As :func:`oba.curvature.channel_curvature`, with gradients in the place of curvature adjoints.
    """
    return channel_derivatives(_GradientMode, model, inputs, loss, names, wanted)


class _GradientMode(LayerMode):
    """Make every layer a node that adds up its channels."""

    def node(self, names: tuple[str, str], linear_map: LinearMap, input: Tensor) -> Tensor:
        call = LayerNode(names, linear_map, self.sums)
        weight, bias = self.leaves[names[0]], self.leaves.get(names[1])
        z: Tensor = _SummingLayer.apply(input, weight, bias, call)
        call.keep(z)
        return z


class _SummingLayer(torch.autograd.Function):
    """The node of a layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, call: LayerNode) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.call = call
        return call.forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        (delta,) = grad_outputs
        call: LayerNode = ctx.call
        x, weight, bias = ctx.saved_tensors
        flow, _ = call.linear_map.backward(delta, x, weight, ctx.needs_input_grad[0] or call.inward, False)
        if call.inward and flow is not None:
            call.add("in", flow, x)
        if call.outward:
            call.add_outward(delta, (x, weight, bias))
        return flow, None, None, None

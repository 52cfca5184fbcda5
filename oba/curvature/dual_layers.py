r"""Layers that carry a value and its tangent together, at the least cost.

A layer ``Z = W*X + b`` whose parameters move in their own direction has the tangent ``Ż = Z + W*Ẋ``: one more pass.
With u and δ, what arrives at Z and at Ż, and the direction held constant,

.. math:: \bar X = W^Tu + W^T\delta, \qquad \bar{\dot X} = W^T\delta, \qquad \bar b = \sum u, \qquad
          \bar W = u \otimes X + \delta \otimes \dot X

which is what :mod:`oba.curvature.adjoint_layers` computes in two passes, and costs as much: 6 units for parameters, 4
for channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from oba.curvature.channel_sums import LayerNode, Sums, Tensors
from oba.curvature.linear_maps import LinearMap

Dual = tuple[Tensor, Tensor]
"""A value and its tangent."""
Flows = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]
"""What flows back to an input, its tangent, a weight and a bias."""


class DualLayer(LayerNode):
    """One call of a layer on a value and its tangent."""

    def __init__(self, names: tuple[str, str], linear_map: LinearMap, sums: Sums, x_dot: Tensor | None) -> None:
        """Prepare a call with the tangent of its input, None where that does not move."""
        super().__init__(names, linear_map, sums)
        self._x_dot = None if x_dot is None else x_dot.detach()
        self._step: Tensor | None = None

    def run(self, x: Tensor, x_dot: Tensor | None, weight: Tensor, bias: Tensor | None) -> Dual:
        """Return Z and Ż, attached to the graph."""
        z, z_dot = _DualLayerFunction.apply(x, x_dot, weight, bias, self)
        self.keep(z)
        return z, z_dot

    def tangent(self, z: Tensor, weight: Tensor) -> Tensor:
        """Return Ż; a copy of Z where X does not move, because activations may work in place."""
        if self._x_dot is None:
            return z.clone()
        step = self.forward(self._x_dot, weight, None)
        if not self.outward:
            return step.add_(z)
        self._step = step
        return z + step

    def backward(self, u: Tensor, delta: Tensor, tensors: Tensors, needs: tuple[bool, bool]) -> Flows:
        """Return what flows to X and its tangent, where needed, and to W and b."""
        x, weight, bias = tensors
        x_dot, step = self._x_dot, self._step
        self._x_dot = self._step = None
        # Where X does not move, Ż depends on X all the same.
        flow_dot, part = self.linear_map.backward(
            delta,
            x if x_dot is None else x_dot,
            weight,
            any(needs) or self.inward,
            self.of_parameters and x_dot is not None,
        )
        flow, of_weight = self.linear_map.backward(u, x, weight, needs[0] or self.inward, self.of_parameters)
        if self.inward and flow is not None:
            self.add("in", flow, x)
            if x_dot is not None and flow_dot is not None:
                self.add("in", flow_dot, x_dot)
        if self.outward:
            self.add_outward(u, tensors)
            if step is not None:
                self.add("out", delta, step)
        if flow is not None and flow_dot is not None:
            flow += flow_dot
        if part is not None and of_weight is not None:
            of_weight += part
        of_bias = self.per_channel(u) if self.of_parameters and bias is not None else None
        return flow if needs[0] else None, flow_dot if needs[1] else None, of_weight, of_bias


class _DualLayerFunction(torch.autograd.Function):
    """The node of a layer."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, x_dot: Tensor | None, weight: Tensor, bias: Tensor | None, call: DualLayer
    ) -> Dual:
        ctx.save_for_backward(x, weight, bias)
        ctx.call = call
        z = call.forward(x, weight, bias)
        return z, call.tangent(z, weight)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        u, delta = grad_outputs
        return *ctx.call.backward(u, delta, ctx.saved_tensors, ctx.needs_input_grad[:2]), None

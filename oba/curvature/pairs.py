r"""Layers and frozen norms that carry a value and its tangent together, at the least cost.

A layer ``Z = W*X + b`` whose parameters move in their own direction has the tangent ``Ż = W*(X + Ẋ) + b``: one more
pass. With u and δ, what arrives at Z and at Ż, and the direction held constant,

.. math:: \bar X = W^T(u + \delta), \qquad \bar{\dot X} = W^T\delta, \qquad \bar b = \sum u, \qquad
          \bar W = u \otimes X + \delta \otimes \dot X

which is what :mod:`oba.curvature.layers` computes in two passes, and costs as much: 6 units for parameters, 4 for
channels. A batch norm with frozen statistics is a layer of this kind with one weight per channel.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from oba.curvature.geometry import Geometry
from oba.curvature.sums import LayerNode, Sums

Pair = tuple[Tensor, Tensor]
"""A value and its tangent."""


class PairCall(LayerNode):
    """One call of a layer on a value and its tangent."""

    def __init__(self, names: tuple[str, str], geometry: Geometry, x_dot: Tensor | None, sums: Sums) -> None:
        """Prepare a call.

        Args:
            names: Names of the weight and of the bias, empty without one.
            geometry: How the layer maps.
            x_dot: Tangent of the input; None where it does not move.
            sums: What is shared with the other layers.
        """
        super().__init__(names, geometry, sums)
        self._x_dot = None if x_dot is None else x_dot.detach()

    def moved(self, x: Tensor) -> Tensor:
        """Return ``X + Ẋ``, see :class:`LayerNode`."""
        return x if self._x_dot is None else x + self._x_dot

    def run(self, x: Tensor, x_dot: Tensor | None, weight: Tensor, bias: Tensor | None) -> Pair:
        """Run the layer.

        Args:
            x: Input X.
            x_dot: Its tangent, attached to the graph; None where it does not move.
            weight: W, a leaf.
            bias: b, a leaf, or None.

        Returns:
            Z and Ż, attached to the graph.
        """
        z, z_dot = _PairedLayer.apply(x, x_dot, weight, bias, self)
        self.keep(z, z_dot)
        return z, z_dot

    def tangent(self, x: Tensor, z: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return Ż; a copy of Z where X does not move, because activations may work in place.

        Args:
            x: Input X.
            z: Output Z.
            weight: W.
            bias: b, or None.

        Returns:
            The tangent of the output.
        """
        return z.clone() if self._x_dot is None else self.forward(self.moved(x), weight, bias)

    def backward(
        self, u: Tensor, delta: Tensor, tensors: tuple[Tensor, Tensor, Tensor | None], needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, ...]:
        """Return what flows back.

        Args:
            u: What arrives at Z.
            delta: What arrives at Ż.
            tensors: X, W and b.
            needs: Whether X and its tangent need theirs.

        Returns:
            What flows to X, its tangent, W and b.
        """
        x, weight, bias = tensors
        both = u + delta
        if not self.of_parameters:
            flow, _ = self.geometry.backward(both, x, weight, needs[0] or self.inward, False)
            flow_dot, _ = self.geometry.backward(delta, x, weight, needs[1] or self.inward, False)
            if self.inward and flow is not None and flow_dot is not None:
                self.add("in", flow, x)
                self.add("in", flow_dot, x, -1)
                if self._x_dot is not None:
                    self.add("in", flow_dot, self._x_dot)
            if self.outward:
                self.add_outward(u, None if self._x_dot is None else delta, tensors)
            return flow if needs[0] else None, flow_dot if needs[1] else None, None, None
        of_bias = None if bias is None else self.per_channel(u)
        if self._x_dot is None:
            flow, _ = self.geometry.backward(both, x, weight, needs[0], False)
            _, of_weight = self.geometry.backward(u, x, weight, False, True)
            return flow, None, of_weight, of_bias
        flow, of_both = self.geometry.backward(both, x, weight, needs[0], True)
        flow_dot, of_step = self.geometry.backward(delta, self._x_dot - x, weight, needs[1], True)
        assert of_both is not None
        assert of_step is not None
        return flow, flow_dot, of_both + of_step, of_bias


class _PairedLayer(torch.autograd.Function):
    """The node of a layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, x_dot: Tensor | None, weight: Tensor, bias: Tensor | None, call: PairCall) -> Pair:
        ctx.save_for_backward(x, weight, bias)
        ctx.call = call
        z = call.forward(x, weight, bias)
        return z, call.tangent(x, z, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        u, delta = grad_outputs
        return *ctx.call.backward(u, delta, ctx.saved_tensors, ctx.needs_input_grad[:2]), None


class FrozenNorm:
    """A batch norm with frozen statistics, on a value and its tangent."""

    def __init__(self, mean: Tensor, variance: Tensor, eps: float, moves: bool, of_parameters: bool) -> None:
        """Take the statistics.

        Args:
            mean: Running mean, shape (channels,).
            variance: Running variance, shape (channels,).
            eps: What is added to the variance.
            moves: Whether the affine parameters move in their own direction; otherwise they are constants.
            of_parameters: Whether their adjoints are wanted.
        """
        self.mean, self.variance, self.eps = mean, variance, eps
        self.moves, self.of_parameters = moves, of_parameters

    def run(self, x: Tensor, x_dot: Tensor | None, weight: Tensor | None, bias: Tensor | None) -> Pair:
        """Normalise.

        Args:
            x: Input, shape (N, channels, ...).
            x_dot: Its tangent; None where it does not move.
            weight: Scale, or None.
            bias: Shift, or None.

        Returns:
            The output and its tangent, attached to the graph.
        """
        return _PairedNorm.apply(x, x_dot, weight, bias, self)

    def forward(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Return the normalised input.

        Args:
            x: Input, shape (N, channels, ...).
            weight: Scale, or None.
            bias: Shift, or None.

        Returns:
            Shape of the input.
        """
        return F.batch_norm(x, self.mean, self.variance, weight, bias, False, 0.0, self.eps)

    def scale(self, weight: Tensor | None, like: Tensor) -> Tensor:
        """Return what the norm multiplies each channel by.

        Args:
            weight: Scale, or None.
            like: Activations that it multiplies.

        Returns:
            A tensor that can be multiplied with the activations.
        """
        return frozen_scale(self.variance, self.eps, weight, like)


class _PairedNorm(torch.autograd.Function):
    """The node of a frozen norm."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, x_dot: Tensor | None, weight: Tensor | None, bias: Tensor | None, norm: FrozenNorm
    ) -> Pair:
        ctx.norm = norm
        keeps = norm.moves and norm.of_parameters
        ctx.save_for_backward(weight, x if keeps else None, x_dot if keeps else None)
        y = norm.forward(x, weight, bias)
        if norm.moves:
            return y, y.clone() if x_dot is None else norm.forward(x + x_dot, weight, bias)
        return y, torch.zeros_like(y) if x_dot is None else x_dot * norm.scale(weight, x_dot)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        u, delta = grad_outputs
        norm: FrozenNorm = ctx.norm
        weight, x, x_dot = ctx.saved_tensors
        scale = norm.scale(weight, u)
        flow = (u + delta if norm.moves else u) * scale if ctx.needs_input_grad[0] else None
        flow_dot = delta * scale if ctx.needs_input_grad[1] else None
        if x is None:
            return flow, flow_dot, None, None, None
        over = [d for d in range(u.dim()) if d != 1]
        of_weight = (u * (x - _along(norm.mean, x))).sum(over)
        if x_dot is not None:
            of_weight += (delta * x_dot).sum(over)
        return flow, flow_dot, of_weight * (norm.variance + norm.eps).rsqrt(), u.sum(over), None


def frozen_scale(variance: Tensor, eps: float, weight: Tensor | None, like: Tensor) -> Tensor:
    """Return what a batch norm with frozen statistics multiplies each channel by.

    Args:
        variance: Running variance, shape (channels,).
        eps: What is added to it.
        weight: Scale, or None.
        like: Activations (N, channels, ...) that it multiplies.

    Returns:
        A tensor that can be multiplied with the activations.
    """
    scale = (variance + eps).rsqrt()
    return _along(scale if weight is None else scale * weight, like)


def _along(channels: Tensor, activations: Tensor) -> Tensor:
    """Give a vector over channels the dimensions of activations (N, channels, ...)."""
    return channels.view(-1, *[1] * (activations.dim() - 2))

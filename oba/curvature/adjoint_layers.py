r"""The products (weight, input) of Conv and Linear layers in Algorithm 1, at the least cost.

For ``Z = W*X + b`` with the direction v = θ the tangent of the weight is the weight itself, so

.. math:: \dot Z = Z + W*\dot X

With the adjoint δ of Z and the curvature adjoint u that arrives at Z, Algorithm 1 gives

.. math:: \lambda_X = W^Tu + W^T\delta, \qquad \lambda_b = \sum u, \qquad
          \lambda_W = u \otimes X + \delta \otimes \dot X

and, summed over the weights of an output or input channel c, without any weight gradient,

.. math:: \langle u_c, Z_c - b_c\rangle + \langle \delta_c, (W*\dot X)_c\rangle, \qquad
          \langle (W^Tu)_c, X_c\rangle + \langle (W^T\delta)_c, \dot X_c\rangle

Every first term belongs to the backward pass of u, every second term to that of δ. The pass of δ runs first, and leaves
behind what the pass of u adds to its own. Counted in convolutions of the layer, where a plain gradient is 3 (forward,
to the input, to the weight), parameters cost 6, two forwards and two plain backward passes; channels cost 4: no
products to the weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from oba.curvature.channel_sums import LayerNode, Sums, Tensors
from oba.curvature.linear_maps import LinearMap

LayerFlows = tuple[Tensor | None, Tensor | None, Tensor | None]
"""What flows back to an input, a weight and a bias."""


@dataclass
class Phase:
    """Which backward pass is running: that of the adjoints δ, or the second, of the curvature adjoints."""

    second: bool = False


class AdjointLayer(LayerNode):
    """One call of a layer whose weight and bias move in their own direction."""

    def __init__(
        self, names: tuple[str, str], linear_map: LinearMap, sums: Sums, x_dot: Tensor | None, phase: Phase
    ) -> None:
        """Prepare a call with the tangent of its input, None where that does not move."""
        super().__init__(names, linear_map, sums)
        self._x_dot, self._phase = x_dot, phase
        self._step: Tensor | None = None
        self._flow: Tensor | None = None
        self._product: Tensor | None = None
        self._factors: tuple[Tensor, Tensor] | None = None

    def run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return Z, attached to the graph, and its tangent."""
        z: Tensor = _LayerFunction.apply(x, weight, bias, self)
        self.keep(z)
        with torch.no_grad():
            if self._x_dot is None:
                return z, z.clone()  # because activations may work in place
            step = self.forward(self._x_dot, weight, None)
            if not self.outward:
                return z, step.add_(z)
            self._step = step
            return z, z + step

    def backward(self, gradient: Tensor, tensors: Tensors, moves: bool) -> LayerFlows:
        """Take δ in the first backward pass, and send it on to X alone; take u in the second, and send on λ."""
        return self._second(gradient, tensors, moves) if self._phase.second else self._first(gradient, tensors, moves)

    def _first(self, delta: Tensor, tensors: Tensors, moves: bool) -> LayerFlows:
        """Use the tangents; leave for the second pass what takes less memory, products or their factors."""
        x, weight, _ = tensors
        x_dot, self._x_dot = self._x_dot, None
        step, self._step = self._step, None
        of_weight = self.of_parameters and x_dot is not None
        if of_weight and x_dot is not None and weight.numel() > delta.numel() + x_dot.numel():
            self._factors, of_weight = (delta, x_dot), False
        flow, self._product = self.linear_map.backward(
            delta, x if x_dot is None else x_dot, weight, moves or self.inward, of_weight
        )
        if step is not None:
            self.add("out", delta, step)
        if self.inward and flow is not None and x_dot is not None:
            self.add("in", flow, x_dot)
        if moves and self._factors is None:
            self._flow = flow
        return flow if moves else None, None, None

    def _second(self, u: Tensor, tensors: Tensors, moves: bool) -> LayerFlows:
        """Add up what both passes contribute."""
        x, weight, bias = tensors
        flow, of_weight = self._both(u, x, weight, moves or self.inward)
        if self.inward and flow is not None:
            self.add("in", flow, x)
        if self.outward:
            self.add_outward(u, tensors)
        first, self._flow = self._flow, None
        if flow is not None and first is not None:
            flow += first
        return flow, of_weight, self.per_channel(u) if self.of_parameters and bias is not None else None

    def _both(self, u: Tensor, x: Tensor, weight: Tensor, moves: bool) -> tuple[Tensor | None, Tensor | None]:
        """Return what flows to X, less what the first pass left behind, and ``λ_W``."""
        if self._factors is None:
            flow, of_weight = self.linear_map.backward(u, x, weight, moves, self.of_parameters)
            part, self._product = self._product, None
        else:
            (delta, x_dot), self._factors = self._factors, None
            flow, _ = self.linear_map.backward(u + delta, x, weight, moves, False)
            _, of_weight = self.linear_map.backward(u, x, weight, False, True)
            _, part = self.linear_map.backward(delta, x_dot, weight, False, True)
        if of_weight is not None and part is not None:
            of_weight += part
        return flow, of_weight


class _LayerFunction(torch.autograd.Function):
    """The node of a layer in the graph; both backward passes go through it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, call: AdjointLayer) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.call = call
        return call.forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        return *ctx.call.backward(*grad_outputs, ctx.saved_tensors, ctx.needs_input_grad[0]), None

r"""The products (weight, input) of Conv and Linear layers, at the least cost.

For ``Z = W*X + b`` with the direction v = θ the tangent of the weight is the weight itself, so

.. math:: \dot Z = W*(X + \dot X) + b

With the adjoint δ of Z and the curvature adjoint u that arrives at Z, Algorithm 1 gives

.. math:: \lambda_X = W^T(u + \delta), \qquad \lambda_b = \sum u, \qquad
          \lambda_W = u \otimes X + \delta \otimes \dot X = (u + \delta) \otimes X + \delta \otimes (\dot X - X)

and, summed over the weights of an output or input channel c, without any weight gradient,

.. math:: \langle u_c, Z_c - b_c\rangle + \langle \delta_c, (\dot Z - Z)_c\rangle, \qquad
          \langle W^T(u + \delta), X\rangle_c + \langle W^T\delta, \dot X - X\rangle_c

Counted in convolutions of the layer, where a plain gradient is 3 (forward, to the input, to the weight), parameters
cost 6: two forwards and two plain backward passes, one of δ with the input ``Ẋ - X`` and one of ``u + δ`` with X.
Channels cost 4: no products to the weight.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from oba.curvature.geometry import Geometry
from oba.curvature.sums import LayerNode, Sums

LayerFlows = tuple[Tensor | None, Tensor | None, Tensor | None]
"""What flows back to an input, a weight and a bias."""


class Sweep(Sums):
    """What the two backward passes share."""

    second = False
    """False while the adjoints δ are collected, True while the curvature adjoints flow."""


class LayerCall(LayerNode):
    """One call of a layer whose weight and bias move in their own direction."""

    def __init__(self, names: tuple[str, str], geometry: Geometry, x_dot: Tensor | None, sweep: Sweep) -> None:
        """Prepare a call.

        Args:
            names: Names of the weight and of the bias, empty without one.
            geometry: How the layer maps.
            x_dot: Tangent of the input; None where it does not move.
            sweep: The state shared with the other layers.
        """
        super().__init__(names, geometry, sweep)
        self._x_dot, self._sweep = x_dot, sweep
        self._delta: Tensor | None = None
        self._part: Tensor | None = None

    def moved(self, x: Tensor) -> Tensor:
        """Return ``X + Ẋ``, see :class:`LayerNode`."""
        return x if self._x_dot is None else x + self._x_dot

    def run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Run the layer.

        Args:
            x: Input X, attached to the graph.
            weight: W, a leaf.
            bias: b, a leaf, or None.

        Returns:
            The output Z, attached to the graph, and its tangent.
        """
        z: Tensor = _LayerFunction.apply(x, weight, bias, self)
        with torch.no_grad():
            # Where X does not move the tangent equals Z; a copy, because activations may work in place.
            z_dot = z.clone() if self._x_dot is None else self.forward(self.moved(x), weight, bias)
        self.keep(z, z_dot)
        return z, z_dot

    def backward(self, gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, moves: bool) -> LayerFlows:
        """Take δ in the first backward pass and u in the second.

        Args:
            gradient: δ or u, in the shape of Z.
            x: Input X.
            weight: W.
            bias: b, or None.
            moves: Whether a gradient with respect to X is needed.

        Returns:
            What flows on to X, W and b: in the first pass the gradient with respect to X alone, in the second λ.
        """
        if not self._sweep.second:
            return self._first(gradient, x, weight, moves), None, None
        delta, self._delta = self._delta, None
        assert delta is not None
        if self.of_parameters:
            return self._parameter_adjoints(gradient, delta, x, weight, bias, moves)
        flow, _ = self.geometry.backward(gradient + delta, x, weight, moves or self.inward, False)
        if self.inward and flow is not None:
            self.add("in", flow, x)
        if self.outward:
            self.add_outward(gradient, None if self._x_dot is None else delta, (x, weight, bias))
        return flow, None, None

    def _first(self, delta: Tensor, x: Tensor, weight: Tensor, moves: bool) -> Tensor | None:
        """Keep δ and what it contributes by itself: ``δ ⊗ (Ẋ - X)`` and its sums over input channels."""
        self._delta = delta
        of_weight = self.of_parameters and self._x_dot is not None
        step = self._x_dot - x if of_weight and self._x_dot is not None else x
        flow, self._part = self.geometry.backward(delta, step, weight, moves or self.inward, of_weight)
        if of_weight:
            self._x_dot = None
        if self.inward and flow is not None:
            self.add("in", flow, x, -1)
            if self._x_dot is not None:
                self.add("in", flow, self._x_dot)
        return flow

    def _parameter_adjoints(
        self, u: Tensor, delta: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, moves: bool
    ) -> LayerFlows:
        part, self._part = self._part, None
        if part is None:
            flow, _ = self.geometry.backward(u + delta, x, weight, moves, False)
            _, of_weight = self.geometry.backward(u, x, weight, False, True)
        else:
            flow, of_weight = self.geometry.backward(u + delta, x, weight, moves, True)
            of_weight = part if of_weight is None else of_weight + part
        return flow, of_weight, None if bias is None else self.per_channel(u)


class _LayerFunction(torch.autograd.Function):
    """The node of a layer in the graph; both backward passes go through it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, call: LayerCall) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.call = call
        return call.forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        return *ctx.call.backward(*grad_outputs, *ctx.saved_tensors, ctx.needs_input_grad[0]), None

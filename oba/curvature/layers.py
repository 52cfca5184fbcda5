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

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from oba.curvature.geometry import Geometry

ChannelKey = tuple[str, str]
"""Name of a parameter in ``named_parameters()`` and an axis, ``"out"`` or ``"in"``."""
LayerFlows = tuple[Tensor | None, Tensor | None, Tensor | None]
"""What flows back to an input, a weight and a bias."""


@dataclass
class Sweep:
    """What all layer products of one forward pass share.

    Attributes:
        wanted: The weights' channels whose sums are wanted instead of the parameters' adjoints; None for adjoints.
        second: False while the adjoints δ are collected, True while the curvature adjoints flow.
        sums: For the channels of each wanted weight, and for each bias, the scores so far: (channels,), float64.
    """

    wanted: Collection[ChannelKey] | None = None
    second: bool = False
    sums: dict[ChannelKey, Tensor] = field(default_factory=dict)

    def wants(self, name: str, axis: str) -> bool:
        """Tell whether a sum is wanted.

        Args:
            name: Name of a weight.
            axis: ``"out"`` or ``"in"``.

        Returns:
            True if it is.
        """
        return self.wanted is not None and (name, axis) in self.wanted

    def add(self, name: str, axis: str, scores: Tensor) -> None:
        """Add to a sum.

        Args:
            name: Name of a weight or bias.
            axis: ``"out"`` or ``"in"``.
            scores: One value for each channel.
        """
        self.sums[name, axis] = self.sums.get((name, axis), 0) + scores.double()


class LayerCall:
    """One call of a layer whose weight and bias move in their own direction."""

    def __init__(self, names: tuple[str, str], geometry: Geometry, x_dot: Tensor | None, sweep: Sweep) -> None:
        """Prepare a call.

        Args:
            names: Names of the weight and of the bias, empty without one.
            geometry: How the layer maps.
            x_dot: Tangent of the input; None where it does not move.
            sweep: The state shared with the other layers.
        """
        self._weight_name, self._bias_name = names
        self._geometry, self._x_dot, self._sweep = geometry, x_dot, sweep
        self._inward, self._outward = (sweep.wants(self._weight_name, axis) for axis in ("in", "out"))
        self._delta: Tensor | None = None
        self._part: Tensor | None = None
        self._outputs: list[tuple[Tensor, int]] = []

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
            z_dot = z.clone() if self._x_dot is None else self.forward(x + self._x_dot, weight, bias)
        if self._outward:
            self._outputs = [(t.detach(), t._version) for t in (z, z_dot)]
        return z, z_dot

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return Z.

        Args:
            x: Input X.
            weight: W.
            bias: b, or None.

        Returns:
            ``W*X + b``.
        """
        return self._geometry.forward(x, weight, bias)

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
        if self._sweep.wanted is None:
            return self._parameter_adjoints(gradient, delta, x, weight, bias, moves)
        flow, _ = self._geometry.backward(gradient + delta, x, weight, moves or self._inward, False)
        if self._inward and flow is not None:
            self._add("in", flow, x)
        if self._outward:
            self._add_outward(gradient, delta, x, weight, bias)
        return flow, None, None

    def _first(self, delta: Tensor, x: Tensor, weight: Tensor, moves: bool) -> Tensor | None:
        """Keep δ and what it contributes by itself: ``δ ⊗ (Ẋ - X)`` and its sums over input channels."""
        self._delta = delta
        of_weight = self._sweep.wanted is None and self._x_dot is not None
        step = x
        if of_weight or self._inward:
            step = -x if self._x_dot is None else self._x_dot - x
        flow, self._part = self._geometry.backward(delta, step, weight, moves or self._inward, of_weight)
        if of_weight:
            self._x_dot = None
        if self._inward and flow is not None:
            self._add("in", flow, step)
        return flow

    def _parameter_adjoints(
        self, u: Tensor, delta: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, moves: bool
    ) -> LayerFlows:
        part, self._part = self._part, None
        if part is None:
            flow, _ = self._geometry.backward(u + delta, x, weight, moves, False)
            _, of_weight = self._geometry.backward(u, x, weight, False, True)
        else:
            flow, of_weight = self._geometry.backward(u + delta, x, weight, moves, True)
            of_weight = part if of_weight is None else of_weight + part
        return flow, of_weight, None if bias is None else self._per_channel(u)

    def _add_outward(self, u: Tensor, delta: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        (z, z_version), (z_dot, z_dot_version) = self._outputs
        # An activation that works in place has overwritten them; then they are computed again.
        z = z if z._version == z_version else self.forward(x, weight, bias)
        self._add("out", u, z)
        if self._x_dot is not None:
            z_dot = z_dot if z_dot._version == z_dot_version else self.forward(x + self._x_dot, weight, bias)
            self._add("out", delta, z_dot - z)
        if bias is not None:
            of_bias = bias * self._per_channel(u)
            self._sweep.add(self._weight_name, "out", -of_bias)
            self._sweep.add(self._bias_name, "out", of_bias)

    def _add(self, axis: str, gradient: Tensor, values: Tensor) -> None:
        self._sweep.add(self._weight_name, axis, self._per_channel(gradient * values))

    def _per_channel(self, activations: Tensor) -> Tensor:
        kept = self._geometry.channels % activations.dim()
        return activations.sum([d for d in range(activations.dim()) if d != kept])


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

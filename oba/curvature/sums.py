"""Sums of scores over channels, gathered by the layers' nodes while a backward pass runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from oba.curvature.geometry import Geometry

ChannelKey = tuple[str, str]
"""Name of a parameter in ``named_parameters()`` and an axis, ``"out"`` or ``"in"``."""


@dataclass
class Sums:
    """What all layer nodes of one forward pass share.

    Attributes:
        wanted: The weights' channels whose sums are wanted instead of the parameters' adjoints; None for adjoints.
        sums: For the channels of each wanted weight, and for each bias, the scores so far: (channels,), float64.
    """

    wanted: Collection[ChannelKey] | None = None
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


class LayerNode:
    """One call of a layer, and what it adds to the sums of its channels."""

    def __init__(self, names: tuple[str, str], geometry: Geometry, sums: Sums) -> None:
        """Prepare a call.

        Args:
            names: Names of the weight and of the bias, empty without one.
            geometry: How the layer maps.
            sums: What is shared with the other layers.
        """
        self._weight_name, self._bias_name = names
        self.geometry, self._sums = geometry, sums
        self.inward, self.outward = (sums.wants(self._weight_name, axis) for axis in ("in", "out"))
        self._outputs: list[tuple[Tensor, int]] = []

    @property
    def of_parameters(self) -> bool:
        """Whether adjoints of the weight and bias are wanted, and no sums."""
        return self._sums.wanted is None

    def keep(self, *outputs: Tensor) -> None:
        """Remember what the layer returned, as far as sums over output channels need it.

        Args:
            *outputs: Z, or Z and its tangent.
        """
        if self.outward:
            self._outputs = [(t.detach(), t._version) for t in outputs]

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return Z.

        Args:
            x: Input X.
            weight: W.
            bias: b, or None.

        Returns:
            ``W*X + b``.
        """
        return self.geometry.forward(x, weight, bias)

    def output(self, number: int, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return what was kept; an activation that works in place has overwritten it: then it is computed again.

        Args:
            number: Which of the outputs that were kept.
            x: What the layer made it from.
            weight: W.
            bias: b, or None.

        Returns:
            The output.
        """
        kept, version = self._outputs[number]
        return kept if kept._version == version else self.forward(x, weight, bias)

    def add(self, axis: str, gradient: Tensor, values: Tensor, sign: int = 1) -> None:
        """Add products, channel by channel, to the weight's sums.

        Args:
            axis: ``"out"`` or ``"in"``.
            gradient: Activations.
            values: Activations of the same shape.
            sign: 1, or -1 to subtract.
        """
        self._sums.add(self._weight_name, axis, sign * self.per_channel(gradient * values))

    def add_outward(self, u: Tensor, delta: Tensor | None, tensors: tuple[Tensor, Tensor, Tensor | None]) -> None:
        """Add ``⟨u, Z - b⟩ + ⟨δ, Ż - Z⟩`` and the bias's ``b Σu``, channel by channel, without a difference of tensors.

        Args:
            u: What arrives at Z.
            delta: δ; None where X does not move, or in a pass of the first order.
            tensors: X, W and b. The tangent of X is asked for by :meth:`moved`.
        """
        x, weight, bias = tensors
        z = self.output(0, x, weight, bias)
        self.add("out", u, z)
        if delta is not None:
            self.add("out", delta, self.output(1, self.moved(x), weight, bias))
            self.add("out", delta, z, -1)
        if bias is not None:
            of_bias = bias * self.per_channel(u)
            self._sums.add(self._weight_name, "out", -of_bias)
            self._sums.add(self._bias_name, "out", of_bias)

    def moved(self, x: Tensor) -> Tensor:
        """Return ``X + Ẋ``.

        Args:
            x: Input X.

        Returns:
            X itself: by default nothing moves.
        """
        return x

    def per_channel(self, activations: Tensor) -> Tensor:
        """Add up over everything but the channels.

        Args:
            activations: Shape of X or Z.

        Returns:
            Shape (channels,).
        """
        if self.geometry.channels == 1:
            # In two steps: the sum over adjoining elements is quicker, and its error smaller.
            return activations.flatten(2).sum(2).sum(0, dtype=torch.float64)
        return activations.flatten(0, -2).sum(0)

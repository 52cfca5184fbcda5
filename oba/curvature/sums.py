"""Sums of scores over channels, gathered by the layers' nodes while a backward pass runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from oba.curvature.geometry import Geometry

ChannelKey = tuple[str, str]
"""Name of a parameter in ``named_parameters()`` and an axis, ``"out"`` or ``"in"``."""


Tensors = tuple[Tensor, Tensor, Tensor | None]
"""Input X, weight W and bias b of a layer."""


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
        self._output: tuple[Tensor, int] | None = None

    @property
    def of_parameters(self) -> bool:
        """Whether adjoints of the weight and bias are wanted, and no sums."""
        return self._sums.wanted is None

    def keep(self, z: Tensor) -> None:
        """Remember what the layer returned if sums over output channels need it.

        Args:
            z: Output Z.
        """
        if self.outward:
            self._output = z.detach(), z._version

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

    def output(self, tensors: Tensors) -> Tensor:
        """Return Z as it was; an activation that works in place has overwritten it: then it is computed again.

        Args:
            tensors: X, W and b.

        Returns:
            ``W*X + b``.
        """
        assert self._output is not None
        kept, version = self._output
        return kept if kept._version == version else self.forward(*tensors)

    def add(self, axis: str, gradient: Tensor, values: Tensor) -> None:
        """Add products, channel by channel, to the weight's sums.

        Args:
            axis: ``"out"`` or ``"in"``.
            gradient: Activations.
            values: Activations of the same shape.
        """
        self._sums.add(self._weight_name, axis, self.per_channel(gradient * values))

    def add_outward(self, u: Tensor, tensors: Tensors) -> None:
        """Add ``⟨u, Z - b⟩`` and the bias's ``b Σu``, channel by channel.

        Args:
            u: What arrives at Z.
            tensors: X, W and b.
        """
        self.add("out", u, self.output(tensors))
        bias = tensors[2]
        if bias is not None:
            of_bias = bias * self.per_channel(u)
            self._sums.add(self._weight_name, "out", -of_bias)
            self._sums.add(self._bias_name, "out", of_bias)

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

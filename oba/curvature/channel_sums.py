"""Sums of scores over channels, gathered by the layers' nodes while a backward pass runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from oba.curvature.linear_maps import LinearMap

ChannelKey = tuple[str, str]
"""Name of a parameter in ``named_parameters()`` and an axis, ``"out"`` or ``"in"``."""
Tensors = tuple[Tensor, Tensor, Tensor | None]
"""Input X, weight W and bias b of a layer."""


@dataclass
class Sums:
    """The sums that all layer nodes of one forward pass add to.

    Attributes:
        wanted: The weights' channels whose sums replace the parameters' derivatives; None where derivatives are wanted.
        sums: For the channels of each wanted weight, and for each bias, the scores so far: (channels,), float64.
    """

    wanted: Collection[ChannelKey] | None = None
    sums: dict[ChannelKey, Tensor] = field(default_factory=dict)

    def wants(self, name: str, axis: str) -> bool:
        """Tell whether the sums over an axis of a weight are wanted."""
        return self.wanted is not None and (name, axis) in self.wanted

    def add(self, name: str, axis: str, scores: Tensor) -> None:
        """Add one value for each channel of a weight or bias."""
        self.sums[name, axis] = self.sums.get((name, axis), 0) + scores.double()


class LayerNode:
    """One call of a layer ``Z = W*X + b``, and what it adds to the sums over its channels."""

    def __init__(self, names: tuple[str, str], linear_map: LinearMap, sums: Sums) -> None:
        """Prepare a call of the layer with a weight and a bias of these names, the latter empty without a bias."""
        self._weight_name, self._bias_name = names
        self.linear_map, self._sums = linear_map, sums
        self.inward, self.outward = (sums.wants(self._weight_name, axis) for axis in ("in", "out"))
        self._output: tuple[Tensor, int] | None = None

    @property
    def of_parameters(self) -> bool:
        """Whether derivatives of the weight and bias are wanted, and no sums."""
        return self._sums.wanted is None

    def keep(self, z: Tensor) -> None:
        """Remember Z if sums over output channels need it."""
        if self.outward:
            self._output = z.detach(), z._version

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``W*X + b``."""
        return self.linear_map.forward(x, weight, bias)

    def output(self, tensors: Tensors) -> Tensor:
        """Return Z; recomputed if an in-place activation has overwritten it."""
        assert self._output is not None
        kept, version = self._output
        return kept if kept._version == version else self.forward(*tensors)

    def add(self, axis: str, gradient: Tensor, values: Tensor) -> None:
        """Add products of activations, channel by channel, to the weight's sums."""
        self._sums.add(self._weight_name, axis, self.per_channel(gradient * values))

    def add_outward(self, u: Tensor, tensors: Tensors) -> None:
        """Add ``⟨u, Z - b⟩`` and the bias's ``b Σu``, channel by channel, for the u that arrives at Z."""
        self.add("out", u, self.output(tensors))
        bias = tensors[2]
        if bias is not None:
            of_bias = bias * self.per_channel(u)
            self._sums.add(self._weight_name, "out", -of_bias)
            self._sums.add(self._bias_name, "out", of_bias)

    def per_channel(self, activations: Tensor) -> Tensor:
        """Sum over everything but the channels."""
        if self.linear_map.channels == 1:
            # In two steps: the sum over adjoining elements is quicker, and its error smaller.
            return activations.flatten(2).sum(2).sum(0, dtype=torch.float64)
        return activations.flatten(0, -2).sum(0)

"""What a net costs: MACs, parameters, bytes; and MACs as a function of what is kept.

A Conv or Linear layer costs (output positions: pixels, tokens) times (elements of its weight)
multiply-accumulates (MACs) per image; positions are counted by hooks in one forward pass. An attention module costs
(pairs of tokens) times (heads) times (dimensions of queries and keys, plus those of values). Products outside such
modules are counted too; no structure changes them. Biases, norms, activations and pooling are not counted.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from oba.models.attention import Attention
from oba.pruning import counting, layers
from oba.pruning.plan import Plan
from oba.structures import ATTENTION, HEAD, IN, OUT, QUERY_KEY, VALUE, StructureGroup


@dataclass(frozen=True)
class Cost:
    """What one net costs.

    Attributes:
        macs: Multiply-accumulates per image.
        parameters: Number of parameters.
        bytes: Parameters and buffers in memory, at their dtypes.
    """

    macs: int
    parameters: int
    bytes: int


@dataclass(frozen=True)
class LayerCost:
    """MACs of one Conv, Linear or attention: ``unit * outputs * inputs``.

    Attributes:
        unit: Output positions times kernel size, summed over the layer's calls; of attention the pairs of tokens times
            the queries that share a key.
        outputs: Output channels; of attention the heads of keys.
        inputs: Input channels that one output channel reads; of attention the dimensions of a key and of a value.
    """

    unit: int
    outputs: int
    inputs: int

    @property
    def macs(self) -> int:
        """MACs per image."""
        return self.unit * self.outputs * self.inputs


def measure(model: nn.Module, input_size: tuple[int, int, int]) -> Cost:
    """Measure a net.

    Args:
        model: The net, pruned or not; left as found.
        input_size: Channels, height and width of an image.

    Returns:
        Its cost.
    """
    tensors = [*model.parameters(), *model.buffers()]
    return Cost(
        macs=CostModel.of(model, input_size).macs,
        parameters=sum(p.numel() for p in model.parameters()),
        bytes=sum(t.numel() * t.element_size() for t in tensors),
    )


class CostModel:
    """MACs of a net while structures go, exact without running it again."""

    def __init__(self, layer_costs: dict[str, LayerCost], fixed: int, blocks: frozenset[str]) -> None:
        """Take what one forward pass counted.

        Args:
            layer_costs: Cost of each Conv, Linear and attention, by name.
            fixed: MACs that no structure changes.
            blocks: Names of the grouped convolutions: losing whole groups, their ``inputs`` stay.
        """
        self._layers = layer_costs
        self._fixed = fixed
        self._blocks = blocks
        self._widths: dict[str, dict[str, tuple[int, int]]] = {}
        self._crossing: dict[str, dict[tuple[str, str], frozenset[int]]] = {}
        self._gone: dict[str, int] = {}
        self._macs = fixed + sum(c.macs for c in layer_costs.values())

    @classmethod
    def of(cls, model: nn.Module, input_size: tuple[int, int, int]) -> CostModel:
        """Count a net in one forward pass, or two where products lie outside of Conv and Linear modules.

        Args:
            model: The net, pruned or not; left as found.
            input_size: Channels, height and width of an image.

        Returns:
            Its cost model.
        """
        kinds = (*layers.Conv, nn.Linear, Attention)
        counted = {name: m for name, m in model.named_modules() if isinstance(m, kinds)}
        parameter = next(model.parameters(), torch.empty(0))
        image = torch.zeros(1, *input_size, dtype=parameter.dtype, device=parameter.device)
        positions, others = counting.positions(model, counted, image)
        costs = {name: _layer_cost(m, positions[name]) for name, m in counted.items() if positions[name]}
        fixed = counting.product_macs(model, image) - sum(c.macs for c in costs.values()) if others else 0
        return cls(costs, fixed, frozenset(n for n in costs if layers.is_divided(counted[n])))

    @property
    def macs(self) -> int:
        """MACs per image of what is left."""
        return self._macs

    def copy(self) -> CostModel:
        """Return a cost model that can go its own way.

        Returns:
            The copy.
        """
        other = copy.copy(self)
        other._layers, other._gone = dict(self._layers), dict(self._gone)
        return other

    def settled(self) -> CostModel:
        """Return the cost model of the net that is left, for groups in that net's coordinates.

        Returns:
            The same costs, with no memory of what has gone.
        """
        return CostModel(dict(self._layers), self._fixed, self._blocks)

    def saving(self, group: StructureGroup, count: int) -> int:
        """Return the MACs that the next structures of a group save, whichever they are.

        Args:
            group: The group.
            count: How many of its structures go.

        Returns:
            MACs per image.
        """
        return sum(self._layers[n].macs - left.macs for n, left in self._left(group, count).items())

    def remove(self, group: StructureGroup, count: int) -> None:
        """Take structures away.

        Args:
            group: The group.
            count: How many of its structures go.
        """
        self._macs -= self.saving(group, count)
        self._layers.update(self._left(group, count))
        self._gone[group.name] = self._gone.get(group.name, 0) + count

    def dense_macs(self, plan: Plan) -> int:
        """Return the MACs of the dense net of which this one is what a plan left.

        Args:
            plan: The plan that has been applied to the net.

        Returns:
            MACs per image.
        """
        total = self._fixed
        for name, cost in self._layers.items():
            sizes = {axis: plan.axes[name, axis].size for axis in (OUT, IN, *ATTENTION) if (name, axis) in plan.axes}
            outputs = sizes.get(OUT, sizes.get(HEAD, cost.outputs))
            inputs = cost.inputs if name in self._blocks else sizes.get(IN, cost.inputs)
            for axis in (QUERY_KEY, VALUE):
                if axis in sizes:
                    inputs += sizes[axis] - len(plan.axes[name, axis].positions)
            total += replace(cost, outputs=outputs, inputs=inputs).macs
        return total

    def _left(self, group: StructureGroup, count: int) -> dict[str, LayerCost]:
        """Return the layers of a group as they are without some of its structures."""
        if group.name not in self._widths:
            self._meet(group)
        left = {}
        for name, (out, into) in self._widths[group.name].items():
            cost = self._layers[name]
            outputs, inputs = out - self._shared(group, name, OUT), into - self._shared(group, name, IN)
            left[name] = LayerCost(cost.unit, cost.outputs - count * outputs, cost.inputs - count * inputs)
        return left

    def _meet(self, group: StructureGroup) -> None:
        """Find how many outputs and inputs of each layer one structure owns; heads and dimensions own some together."""
        widths: dict[str, tuple[int, int]] = {}
        for s in group.on_axis(OUT, IN, *ATTENTION):
            if s.layer in self._layers:
                out, into = widths.get(s.layer, (0, 0))
                width = len(s.indices[0])
                widths[s.layer] = (out + width, into) if s.axis in (OUT, HEAD) else (out, into + width)
        self._widths[group.name] = {n: (o, 0 if n in self._blocks else i) for n, (o, i) in widths.items()}
        if group.on_axis(*ATTENTION):
            self._crossing[group.name] = {(s.layer, s.axis): frozenset(s.indices[0]) for s in group.on_axis(OUT, IN)}

    def _shared(self, group: StructureGroup, layer: str, axis: str) -> int:
        """Count what of a structure, on one axis of a layer, has gone with structures that cross it."""
        own = self._crossing.get(group.name, {}).get((layer, axis))
        if own is None:
            return 0
        return sum(
            len(own & theirs[layer, axis]) * self._gone.get(other, 0)
            for other, theirs in self._crossing.items()
            if other != group.name and (layer, axis) in theirs
        )


def _layer_cost(layer: nn.Module, positions: int) -> LayerCost:
    """Return the cost of a layer that makes outputs, or meets pairs, at so many positions per image."""
    if isinstance(layer, Attention):
        return LayerCost(positions, layer.num_kv_heads, layer.head_dim + layer.value_dim)
    outputs, inputs, *kernel = layer.get_parameter("weight").shape
    return LayerCost(positions * math.prod(kernel), outputs, inputs)

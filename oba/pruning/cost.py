"""What a net costs: MACs, parameters, bytes; and MACs as a function of what is kept.

A Conv or Linear layer costs (output positions: pixels, tokens) times (elements of its weight)
multiply-accumulates (MACs) per image; positions are counted by hooks in one forward pass. Products
outside such modules, above all the two products of activations in attention, are counted too; no
structure changes them, as heads are left whole. Biases, norms, activations and pooling are not counted.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from oba.pruning import counting, layers
from oba.pruning.plan import Plan
from oba.structures import IN, OUT, StructureGroup


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
    """MACs of one Conv or Linear: ``unit * outputs * inputs``.

    Attributes:
        unit: Output positions times kernel size, summed over the layer's calls.
        outputs: Output channels.
        inputs: Input channels that one output channel reads.
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
            layer_costs: Cost of each Conv and Linear, by name.
            fixed: MACs that no structure changes.
            blocks: Names of the grouped convolutions: losing whole groups, their ``inputs`` stay.
        """
        self._layers = layer_costs
        self._fixed = fixed
        self._blocks = blocks
        self._widths: dict[str, dict[str, tuple[int, int]]] = {}
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
        counted = {name: m for name, m in model.named_modules() if isinstance(m, (*layers.Conv, nn.Linear))}
        parameter = next(model.parameters(), torch.empty(0))
        image = torch.zeros(1, *input_size, dtype=parameter.dtype, device=parameter.device)
        positions, others = counting.positions(model, counted, image)
        costs = {name: _layer_cost(m, positions[name]) for name, m in counted.items() if positions[name]}
        fixed = counting.product_macs(model, image) - sum(c.macs for c in costs.values()) if others else 0
        return cls(costs, fixed, frozenset(n for n in costs if layers.coupled_blocks(counted[n]) > 1))

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
        other._layers = dict(self._layers)
        return other

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

    def dense_macs(self, plan: Plan) -> int:
        """Return the MACs of the dense net of which this one is what a plan left.

        Args:
            plan: The plan that has been applied to the net.

        Returns:
            MACs per image.
        """
        total = self._fixed
        for name, cost in self._layers.items():
            out, into = plan.axes.get((name, OUT)), plan.axes.get((name, IN))
            outputs = out.size if out else cost.outputs
            inputs = into.size if into and name not in self._blocks else cost.inputs
            total += replace(cost, outputs=outputs, inputs=inputs).macs
        return total

    def _left(self, group: StructureGroup, count: int) -> dict[str, LayerCost]:
        """Return the layers of a group as they are without some of its structures."""
        if group.name not in self._widths:
            widths: dict[str, tuple[int, int]] = {}
            for s in group.on_axis(OUT, IN):
                if s.layer in self._layers:
                    out, into = widths.get(s.layer, (0, 0))
                    width = len(s.indices[0])
                    widths[s.layer] = (out + width, into) if s.axis == OUT else (out, into + width)
            self._widths[group.name] = {n: (o, 0 if n in self._blocks else i) for n, (o, i) in widths.items()}
        return {
            name: LayerCost(c.unit, c.outputs - count * out, c.inputs - count * into)
            for name, (out, into) in self._widths[group.name].items()
            for c in (self._layers[name],)
        }


def _layer_cost(layer: nn.Module, positions: int) -> LayerCost:
    """Return the cost of a Conv or Linear that makes outputs at so many positions per image."""
    outputs, inputs, *kernel = layer.get_parameter("weight").shape
    return LayerCost(positions * math.prod(kernel), outputs, inputs)

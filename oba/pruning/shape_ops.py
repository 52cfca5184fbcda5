"""Index maps of ``view``, ``permute`` and the like in Torch-Pruning's graph, put right.

Torch-Pruning knows one reshape: flattening ``(N, C, H, W)`` before a linear layer. Here channel numbers are sent
through each chain of such operations, so merged patches, shuffled groups and channels-last layouts are followed, too.
Where channels end up spread over several dimensions, as in attention heads, there is nothing to cut.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor, nn

from oba.pruning import layers
from oba.pruning.coupling import Position

_VIEWS = ("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze")
_OTHERS = ("Permute", "Transpose", "T", "Clone")
_PRODUCTS = ("Mm", "Addmm", "Bmm", "Baddbmm")
"""Their outputs have other channels than their inputs; inside a linear layer the graph still counts its inputs."""


class _Layout(NamedTuple):
    """Where the channels are in a node's output.

    Attributes:
        dim: Their dimension, counted from the end; ``None`` where it is unknown, or there are several.
        numbers: Behind a chain of shape operations, each element's channel in front of the chain.
    """

    dim: int | None = None
    numbers: Tensor | None = None

    @property
    def known(self) -> bool:
        """Whether anything is known."""
        return self.dim is not None or self.numbers is not None


class _Map(NamedTuple):
    """Positions at the other end of a chain of shape operations."""

    ends: Mapping[int, list[int]]

    def __call__(self, positions: Iterable[Position]) -> list[Position]:
        return [Position(end, p.root_idx) for p in positions for end in self.ends.get(p.idx, ())]


def repair_shapes(graph: Any) -> set[Any]:
    """Set the index maps of chains of shape operations, from where channel numbers end up.

    A chain keeps the maps that it has where nothing tells in which dimension its channels are.

    Args:
        graph: A built ``DependencyGraph``, changed in place.

    Returns:
        The nodes behind which channels are spread over several dimensions.
    """
    layouts: dict[Any, _Layout] = {}
    for node in sorted(graph.module2node.values(), key=_call_order):
        layouts[node] = _layout(node, layouts)
    spread = set()
    for node, (dim, numbers) in layouts.items():
        if numbers is None:
            continue
        for neighbour in {*node.inputs, *node.outputs}:
            _forget_flattening(node, neighbour)
        behind = [n for n in set(node.outputs) if layouts[n].numbers is None]
        if dim is not None:
            _connect(node, behind, numbers.movedim(dim, 0).reshape(numbers.shape[dim], -1)[:, 0].tolist())
        elif behind:
            spread.add(node)
    return spread


def _layout(node: Any, before: Mapping[Any, _Layout]) -> _Layout:
    """Find the channels in a node's output from those in its inputs."""
    shape = _shape(node)
    match node.module:
        case nn.Linear():
            return _Layout(-1)
        case nn.Parameter():
            wide = [i - len(shape) for i, n in enumerate(shape) if n > 1]
            return _Layout(wide[0] if len(wide) == 1 else None)
        case module if layers.axes(module) and not isinstance(module, nn.LayerNorm):
            return _Layout(1 - len(shape))
    if _operation(node) in _PRODUCTS:
        return _Layout()
    inputs = [n for n in node.inputs if n in before and before[n].known]
    if inputs and _operation(node) in (*_VIEWS, *_OTHERS):
        return _moved(node, before[inputs[0]])
    same_rank = (before[n].dim for n in inputs if len(_shape(n)) == len(shape))
    return _Layout(next((dim for dim in same_rank if dim is not None), None))


def _moved(node: Any, before: _Layout) -> _Layout:
    """Send channel numbers through one shape operation; what is spread once stays so, as its sizes are the code's."""
    dim, numbers = before
    if dim is None:
        return before
    if numbers is None:
        source, output = node.grad_fn.next_functions[0]
        shape = source._input_metadata[output].shape
        numbers = torch.arange(shape[dim]).view(-1, *[1] * (-1 - dim)).expand(shape)
    match _operation(node):
        case "Permute":
            numbers = numbers.permute([_signed(d) for d in node.grad_fn._saved_dims])
        case "Transpose":
            numbers = numbers.transpose(_signed(node.grad_fn._saved_dim0), _signed(node.grad_fn._saved_dim1))
        case "T":
            numbers = numbers.t()
        case name if name in _VIEWS:
            numbers = numbers.reshape(_shape(node))
    varying = [d for d in range(-numbers.dim(), 0) if (numbers != numbers.narrow(d, 0, 1)).any()]
    if not varying:
        return _Layout()
    return _Layout(varying[0] if len(varying) == 1 else None, numbers)


def _connect(node: Any, behind: Iterable[Any], channels: list[int]) -> None:
    """Map a chain's channels to the positions behind it, and back; ``channels`` has one entry per position."""
    positions = defaultdict(list)
    for position, channel in enumerate(channels):
        positions[channel].append(position)
    there, back = _Map(positions), _Map({position: [channel] for position, channel in enumerate(channels)})
    for consumer in behind:
        for dependency in _dependencies(node, consumer):
            dependency.index_mapping.insert(0, there)
        for dependency in _dependencies(consumer, node):
            dependency.index_mapping.append(back)


def _forget_flattening(node: Any, neighbour: Any) -> None:
    """Take away Torch-Pruning's own map of a reshape."""
    for dependency in (*_dependencies(node, neighbour), *_dependencies(neighbour, node)):
        maps = dependency.index_mapping
        maps[:] = [None if type(m).__name__ == "_FlattenIndexMapping" else m for m in maps]


def _dependencies(source: Any, target: Any) -> list[Any]:
    return [d for d in source.dependencies if d.target is target]


def _call_order(node: Any) -> int:
    """Return when a node's operation ran; parameters were there before."""
    return -1 if isinstance(node.module, nn.Parameter) else node.grad_fn._sequence_nr()


def _operation(node: Any) -> str:
    """Return the name of a node's operation, as ``Permute`` for ``PermuteBackward0``."""
    return getattr(node.grad_fn, "name", str)().partition("Backward")[0]


def _shape(node: Any) -> Size:
    """Return the shape of a node's (first) output."""
    return node.module.shape if isinstance(node.module, nn.Parameter) else node.grad_fn._input_metadata[0].shape


def _signed(dim: int) -> int:
    """Return a dimension that autograd keeps as an unsigned number."""
    return dim if dim < 2**63 else dim - 2**64

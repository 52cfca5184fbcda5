"""Which structures a net has: groups of coupled channels, traced once on the dense net.

Torch-Pruning's dependency graph says how channels of one layer are tied to those of others. Here its
edges are walked with every channel labelled by where it started; channels that meet are one
structure. Only this module imports Torch-Pruning (3.9 s); its pruners are not used.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch_pruning import ops
from torch_pruning.dependency import DependencyGraph

from oba.errors import ModelError
from oba.models.attention import Attention
from oba.pruning import layers
from oba.pruning.attention import attention_group, obstacle_inside
from oba.pruning.coupling import Position, join, numbered
from oba.pruning.ignored import ignored_names
from oba.pruning.shape_ops import repair_shapes
from oba.pruning.split_ops import repair_splits
from oba.pruning.verify import verify_groups
from oba.structures import CHANNEL, FEATURE, HEAD, IN, OUT, QUERY_KEY, STREAM, VALUE, StructureGroup

_ATTENTION = ("Bmm", "Baddbmm", "ScaledDotProduct", "EfficientAttention", "FlashAttention")
"""Operations between two activations that channels cannot be cut through alone: heads stay whole."""
_ADDITIONS = ("AddBackward", "AddcmulBackward", "SubBackward", "StackBackward")
"""Operations that tie the channels of several producers into a residual stream."""


class Structures(NamedTuple):
    """What can go of a net, and what cannot.

    Attributes:
        groups: Groups of structures.
        whole: By layer, why none of its outputs are structures, in a few words.
    """

    groups: list[StructureGroup]
    whole: dict[str, str]


class _Graph(NamedTuple):
    """Torch-Pruning's graph, with the image as one of its parameters, and where channels are spread over dimensions."""

    dependencies: DependencyGraph
    image: nn.Parameter
    spread: set[Any]
    names: dict[int, str]


class _Closure(NamedTuple):
    """Everything that is tied to some output channels of one layer; ``obstacle`` says why it cannot be cut."""

    positions: dict[tuple[str, str], set[Position]]
    obstacle: str
    is_stream: bool


def find_groups(
    model: nn.Module,
    input_size: tuple[int, int, int],
    *,
    ignore: Sequence[str] = (),
    channels: bool = True,
    residual_streams: bool = False,
    heads: bool = True,
    head_dims: bool = False,
) -> list[StructureGroup]:
    """Find the structures of a dense net.

    Never structures: the classifier's outputs, the network's inputs, channels inside attention other than in
    modules of :func:`oba.open_attention`, and channels that reach a layer of a kind that cannot be cut (embeddings,
    recurrent layers, transposed convolutions). A grouped (also depthwise) convolution and a GroupNorm go by whole
    groups. What was traced is checked: the net, cut, must compute what it computes masked.

    Args:
        model: The dense net; left as found.
        input_size: Channels, height and width of an image.
        ignore: Layers whose outputs stay whole: names of modules (with all inside them) or bare parameters, or
            patterns; one that matches nothing is a ``ConfigError``.
        channels: Whether channels and neurons inside of blocks are structures.
        residual_streams: Whether channels that several layers' outputs are added up in are.
        heads: Whether attention heads are.
        head_dims: Whether dimensions of attention are, alike in all heads: those in which queries and keys meet, and
            those of values.

    Returns:
        Groups of at least two structures, in the order of ``named_modules()``, named after the first layer
        whose outputs they are (see :class:`~oba.structures.StructureGroup`).

    Raises:
        ModelError: If the net cannot be traced, or what was traced is wrong.
    """
    options = {"channels": channels, "residual_streams": residual_streams, "heads": heads, "head_dims": head_dims}
    return find_structures(model, input_size, ignore=ignore, **options).groups


def find_structures(
    model: nn.Module,
    input_size: tuple[int, int, int],
    *,
    ignore: Sequence[str] = (),
    channels: bool = True,
    residual_streams: bool = False,
    heads: bool = True,
    head_dims: bool = False,
) -> Structures:
    """Find what :func:`find_groups` finds, and say of the other layers why they stay whole."""
    ignored = ignored_names(model, ignore)
    try:
        model = copy.deepcopy(model).eval().requires_grad_(True)
        graph = _trace(model, input_size)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"the dependencies between the layers of {type(model).__name__} cannot be traced: "
            f"{type(error).__name__}: {reason}"
        ) from error
    order = {name: i for i, name in enumerate(graph.names.values())}
    seen: dict[str, set[int]] = defaultdict(set)
    groups: list[StructureGroup] = []
    whole: dict[str, str] = {}
    in_attention: dict[str, str] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, Attention):
            found, reasons = _inside_attention(name, layer, ignored, heads=heads, head_dims=head_dims)
            groups += found
            in_attention |= reasons
        if layer not in graph.dependencies.module2node or OUT not in layers.axes(layer):
            continue
        roots = [p for p in range(layers.axes(layer)[OUT]) if p not in seen[name]]
        closure = _close(graph, graph.dependencies.module2node[layer], roots)
        for (touched, axis), positions in closure.positions.items():
            if axis == OUT:
                seen[touched].update(p.idx for p in positions)
        obstacle = closure.obstacle
        if any(touched in ignored for touched, axis in closure.positions if axis != IN):
            obstacle = obstacle or "named in structures.ignore"
        kind = STREAM if closure.is_stream else CHANNEL
        if kind == STREAM and not residual_streams:
            obstacle = obstacle or "in a residual stream, and structures.residual_streams is off"
        if kind == CHANNEL and not channels:
            obstacle = obstacle or "inside of a block, and structures.channels is off"
        found = [] if obstacle else join(closure.positions, roots, order, kind)
        groups += found
        if not found:
            obstacle = obstacle or "all its channels are one structure"
            whole |= {touched: obstacle for touched, axis in closure.positions if axis == OUT}
    groups = numbered(groups)
    verify_groups(model, groups, input_size)
    cut = {s.layer for group in groups for s in group.on_axis(OUT)}
    whole |= in_attention
    return Structures(groups, {name: obstacle for name, obstacle in whole.items() if name not in cut})


def _inside_attention(
    name: str, module: Attention, ignored: set[str], *, heads: bool, head_dims: bool
) -> tuple[list[StructureGroup], dict[str, str]]:
    """Return the structures of an attention module; and why its projections are whole, if there are none."""
    groups, reason = [], "" if heads else "inside attention, and structures.heads is off"
    for axis in [HEAD] * heads + [QUERY_KEY, VALUE] * head_dims:
        group = attention_group(name, module, axis)
        named = any(s.layer in ignored for s in group.slices if s.axis != IN)
        obstacle = "named in structures.ignore" if named else obstacle_inside(module, axis)
        reason = reason or obstacle
        if not obstacle:
            groups.append(group)
    return groups, {f"{name}.{layer}": reason for layer, _ in module.projections().values()}


def _trace(model: nn.Module, input_size: tuple[int, int, int]) -> _Graph:
    """Build the dependency graph, with the image as a parameter so that what reaches it is known."""
    parameter = next(model.parameters())
    image = nn.Parameter(torch.zeros(1, *input_size, dtype=parameter.dtype, device=parameter.device))
    with torch.enable_grad():
        graph = DependencyGraph().build_dependency(
            model,
            image,
            forward_fn=lambda net, inputs: net(inputs),
            unwrapped_parameters=cast("Any", [(image, 1)]),
            verbose=False,
        )
    spread = repair_shapes(graph)
    repair_splits(graph)
    names = {id(layer): name for name, layer in (*model.named_parameters(), *model.named_modules())}
    return _Graph(graph, image, spread, names)


def _close(graph: _Graph, root: Any, roots: Sequence[int]) -> _Closure:
    """Walk the graph from output channels of one layer to everything that is tied to them."""
    reached: dict[tuple[Any, Any], set[Position]] = defaultdict(set)
    pruner: Any = graph.dependencies.get_pruner_of_module(root.module)
    stack = [(root, pruner.prune_out_channels, [Position(i, i) for i in roots])]
    while stack:
        node, cut, found = stack.pop()
        new = [p for p in found if p not in reached[node, cut]]
        if new:
            reached[node, cut].update(new)
            stack.extend(_neighbours(graph.dependencies, node, cut, new))
    positions: dict[tuple[str, str], set[Position]] = defaultdict(set)
    producers, obstacle, added = set(), "", False
    for (node, cut), found in reached.items():
        cut_axes = _cut_axes(node, cut)
        obstacle = obstacle or _obstacle(graph, node, cut_axes)
        added |= _adds(node)
        name = graph.names.get(id(node.module))
        if name is not None:
            for axis in cut_axes:
                positions[name, axis].update(found)
            if OUT in cut_axes and layers.coupled_blocks(node.module) == 1:
                producers.add(name)
    return _Closure(positions, obstacle, added and len(producers) > 1)


def _neighbours(
    graph: DependencyGraph, node: Any, cut: Any, positions: list[Position]
) -> Iterator[tuple[Any, Any, list[Position]]]:
    """Yield what cutting positions of a node forces to be cut, Torch-Pruning's edges and whole groups."""
    for dependency in node.dependencies:
        if dependency.is_triggered_by(cut):
            mapped: list[Any] = positions
            for mapping in dependency.index_mapping:
                mapped = mapped if mapping is None else mapping(mapped)
            yield dependency.target, dependency.handler, [Position(*p) for p in mapped]
    layer = node.module
    blocks = layers.coupled_blocks(layer)
    sizes = layers.axes(layer)
    if blocks == 1 or node.type == ops.OPTYPE.DEPTHWISE_CONV:
        return
    pruner: Any = graph.get_pruner_of_module(layer)
    here = sizes[_cut_axes(node, cut)[0]] // blocks
    labels = {(p.idx // here, p.root_idx) for p in positions}
    for axis, size in sizes.items():
        width = size // blocks
        whole = [Position(block * width + i, root) for block, root in labels for i in range(width)]
        yield node, pruner.prune_in_channels if axis == IN else pruner.prune_out_channels, whole


def _cut_axes(node: Any, cut: Any) -> tuple[str, ...]:
    """Return the axes of a layer that one of Torch-Pruning's functions cuts."""
    sizes = layers.axes(node.module)
    if node.type == ops.OPTYPE.DEPTHWISE_CONV or FEATURE in sizes:
        return tuple(sizes)
    if not sizes:
        return ()
    return (OUT,) if cut.__name__ == "prune_out_channels" else (IN,)


def _obstacle(graph: _Graph, node: Any, cut_axes: tuple[str, ...]) -> str:
    """Say why channels cannot be cut through a node, if they cannot."""
    layer = node.module
    if not node.outputs and cut_axes != (IN,):
        return "an output of the net"
    if layer is graph.image:
        return "tied to the net's inputs"
    if node in graph.spread:
        return "divided into heads or groups, which stay whole"
    if type(layer).__module__.startswith(ops.__name__):
        name = getattr(node.grad_fn, "name", str)()
        return "inside attention, where heads stay whole" if name.startswith(_ATTENTION) else ""
    if isinstance(layer, nn.PReLU):
        return ""
    multiplied = node.type == ops.OPTYPE.DEPTHWISE_CONV and layer.in_channels != layer.out_channels
    if multiplied or not layers.axes(layer):
        return f"tied to {graph.names[id(layer)]} ({type(layer).__name__}), which cannot be cut"
    return ""


def _adds(node: Any) -> bool:
    """Tell whether a node adds up activations (adding a parameter or a number does not count)."""
    name = getattr(node.grad_fn, "name", str)()
    activations = [n for n in node.inputs if n.type != ops.OPTYPE.PARAMETER]
    return node.type == ops.OPTYPE.ELEMENTWISE and name.startswith(_ADDITIONS) and len(activations) > 1

"""Which structures a net has: groups of coupled channels, traced once on the dense net.

Torch-Pruning's dependency graph says how channels of one layer are tied to those of others. Here its
edges are walked with every channel labelled by where it started; channels that meet are one
structure. Only this module imports Torch-Pruning (3.9 s); its pruners are not used.
"""

from __future__ import annotations

import copy
import difflib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch_pruning import ops
from torch_pruning.dependency import DependencyGraph

from oba.errors import ConfigError, ModelError
from oba.pruning import layers
from oba.pruning.coupling import Position, join, numbered
from oba.pruning.shape_ops import repair_shapes
from oba.pruning.split_ops import repair_splits
from oba.pruning.verify import verify_groups
from oba.structures import FEATURE, IN, OUT, StructureGroup

_ATTENTION = ("Bmm", "Baddbmm", "ScaledDotProduct", "EfficientAttention", "FlashAttention")
"""Operations between two activations that channels cannot be cut through alone: heads stay whole."""
_ADDITIONS = ("AddBackward", "AddcmulBackward", "SubBackward", "StackBackward")
"""Operations that tie the channels of several producers into a residual stream."""


class _Closure(NamedTuple):
    """Everything that is tied to some output channels of one layer."""

    positions: dict[tuple[str, str], set[Position]]
    cuttable: bool
    is_stream: bool


def find_groups(
    model: nn.Module,
    input_size: tuple[int, int, int],
    *,
    ignore: Sequence[str] = (),
    residual_streams: bool = False,
) -> list[StructureGroup]:
    """Find the structures of a dense net.

    Never structures: the classifier's outputs, the network's inputs, channels inside attention (heads
    stay whole), and channels that reach a layer of a kind that cannot be cut (embeddings, recurrent
    layers, transposed convolutions). A grouped (also depthwise) convolution and a GroupNorm go by whole
    groups. What was traced is checked: the net, cut, must compute what it computes masked.

    Args:
        model: The dense net; left as found.
        input_size: Channels, height and width of an image.
        ignore: Layers whose outputs stay whole: names of modules (with all inside them) or bare parameters, or
            patterns; one that matches nothing is a ``ConfigError``.
        residual_streams: Whether channels that several layers' outputs are added up in are structures too.

    Returns:
        Groups of at least two structures, in the order of ``named_modules()``, named after the first layer
        whose outputs they are (a layer with channels of several kinds: ``name``, ``name#2``, …).

    Raises:
        ModelError: If the net cannot be traced, or what was traced is wrong.
    """
    ignored = _ignored(model, ignore)
    try:
        model = copy.deepcopy(model).eval().requires_grad_(True)
        graph, image = _trace(model, input_size)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"the dependencies between the layers of {type(model).__name__} cannot be traced: "
            f"{type(error).__name__}: {reason}"
        ) from error
    names = {id(layer): name for name, layer in (*model.named_parameters(), *model.named_modules())}
    order = {name: i for i, name in enumerate(names.values())}
    seen: dict[str, set[int]] = defaultdict(set)
    groups = []
    for name, layer in model.named_modules():
        if layer not in graph.module2node or OUT not in layers.axes(layer):
            continue
        roots = [p for p in range(layers.axes(layer)[OUT]) if p not in seen[name]]
        closure = _close(graph, graph.module2node[layer], roots, names, image)
        for (touched, axis), positions in closure.positions.items():
            if axis == OUT:
                seen[touched].update(p.idx for p in positions)
        stays = any(touched in ignored for touched, axis in closure.positions if axis != IN)
        if closure.cuttable and not stays and (residual_streams or not closure.is_stream):
            groups += join(closure.positions, roots, order)
    groups = numbered(groups)
    verify_groups(model, groups, input_size)
    return groups


def _ignored(model: nn.Module, patterns: Sequence[str]) -> set[str]:
    """Return the names of the layers, and of all that is inside them, that patterns match."""
    names = [n for n, _ in (*model.named_modules(), *model.named_parameters()) if n]
    matched: set[str] = set()
    for pattern in patterns:
        hits = [n for n in names if fnmatchcase(n, pattern)]
        if not hits:
            near = difflib.get_close_matches(pattern, names, n=3) or names[:3]
            raise ConfigError(
                f"structures.ignore: {pattern!r} matches no layer of {type(model).__name__}; "
                f"near names: {', '.join(near)}"
            )
        matched.update(n for n in names if any(n == h or n.startswith(f"{h}.") for h in hits))
    return matched


def _trace(model: nn.Module, input_size: tuple[int, int, int]) -> tuple[DependencyGraph, nn.Parameter]:
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
    return graph, image


def _close(
    graph: DependencyGraph, root: Any, roots: Sequence[int], names: dict[int, str], image: nn.Parameter
) -> _Closure:
    """Walk the graph from output channels of one layer to everything that is tied to them."""
    reached: dict[tuple[Any, Any], set[Position]] = defaultdict(set)
    pruner: Any = graph.get_pruner_of_module(root.module)
    stack = [(root, pruner.prune_out_channels, [Position(i, i) for i in roots])]
    while stack:
        node, cut, found = stack.pop()
        new = [p for p in found if p not in reached[node, cut]]
        if new:
            reached[node, cut].update(new)
            stack.extend(_neighbours(graph, node, cut, new))
    positions: dict[tuple[str, str], set[Position]] = defaultdict(set)
    producers, cuttable, added = set(), True, False
    for (node, cut), found in reached.items():
        module = node.module
        cut_axes = _cut_axes(node, cut)
        is_output = not node.outputs and cut_axes != (IN,)
        cuttable &= not (is_output or module is image or _is_opaque(node))
        added |= _adds(node)
        if id(module) in names:
            for axis in cut_axes:
                positions[names[id(module)], axis].update(found)
            if OUT in cut_axes and layers.coupled_blocks(module) == 1:
                producers.add(names[id(module)])
    return _Closure(positions, cuttable, added and len(producers) > 1)


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


def _is_opaque(node: Any) -> bool:
    """Tell whether channels cannot be cut through a node: attention, or a layer without known axes."""
    layer = node.module
    if type(layer).__module__.startswith(ops.__name__):
        name = getattr(node.grad_fn, "name", str)()
        return name.startswith(_ATTENTION)
    if isinstance(layer, nn.PReLU):
        return False
    if node.type == ops.OPTYPE.DEPTHWISE_CONV and layer.in_channels != layer.out_channels:
        return True
    return not layers.axes(layer)


def _adds(node: Any) -> bool:
    """Tell whether a node adds up activations (adding a parameter or a number does not count)."""
    name = getattr(node.grad_fn, "name", str)()
    activations = [n for n in node.inputs if n.type != ops.OPTYPE.PARAMETER]
    return node.type == ops.OPTYPE.ELEMENTWISE and name.startswith(_ADDITIONS) and len(activations) > 1

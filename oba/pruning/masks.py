"""Masks: structures of a dense net silenced, or scaled, without cutting anything.

A mask multiplies a structure's activations once on every path: at the inputs of the Conv and Linear
layers that consume them, behind norm and activation. A grouped (also depthwise) convolution passes
its groups on and is itself part of the structure, so it is not a consumer: the mask acts behind it.
Norm layers and bare parameters have no ``in`` axis and are never masked.

With masks of 0 and 1 the dense net computes what the pruned net computes, except where a LayerNorm,
or a GroupNorm of one group, takes its statistics over channels of which some are gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from oba.pruning import layers
from oba.structures import IN, Slice, StructureGroup


def removal_masks(groups: Sequence[StructureGroup], removed: Mapping[str, Iterable[int]]) -> dict[str, Tensor]:
    """Return the masks that stand for removing structures.

    Args:
        groups: Groups of structures.
        removed: Indices of the structures that go, by group name.

    Returns:
        Per group a float32 tensor of shape (structures,): 0 where removed, else 1.
    """
    masks = {group.name: torch.ones(len(group)) for group in groups}
    for name, indices in removed.items():
        masks[name][list(indices)] = 0
    return masks


@contextmanager
def masked(model: nn.Module, groups: Sequence[StructureGroup], masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Multiply masks into a net's activations while the context lasts; the model is left as found.

    Gradients flow to the masks.

    Args:
        model: The net in whose coordinates the groups are.
        groups: Groups of structures; those without a mask stay as they are.
        masks: Per group a tensor of shape (structures,).

    Yields:
        Nothing.
    """
    consumers: dict[str, list[tuple[Slice, Tensor]]] = defaultdict(list)
    for group in groups:
        for s in group.on_axis(IN):
            if group.name in masks and layers.coupled_blocks(layers.find(model, s.layer)) == 1:
                consumers[s.layer].append((s, masks[group.name]))
    with ExitStack() as stack:
        for name, parts in consumers.items():
            layer = model.get_submodule(name)
            hook = layer.register_forward_pre_hook(_multiply(parts, layers.axes(layer)[IN]))
            stack.callback(hook.remove)
        yield


def _multiply(parts: list[tuple[Slice, Tensor]], size: int) -> Callable[..., Any]:
    """Return a hook that scales the input channels of a layer."""
    positions = torch.tensor([p for s, _ in parts for row in s.indices for p in row])

    def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        inputs, *others = arguments
        values = torch.cat([mask.repeat_interleave(len(s.indices[0])) for s, mask in parts]).to(inputs)
        factor = inputs.new_ones(size).index_copy(0, positions.to(inputs.device), values)
        shape = (-1,) if isinstance(module, nn.Linear) else (-1, *[1] * (inputs.dim() - 2))
        return (inputs * factor.view(shape), *others)

    return hook

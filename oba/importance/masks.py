"""Masks: structures of a dense net silenced, or scaled, without cutting anything.

A mask multiplies a structure's activations once on every path: at the inputs of the Conv and Linear
layers that consume them, behind norm and activation. A grouped (also depthwise) convolution passes
its groups on and is itself part of the structure, so it is not a consumer: the mask acts behind it.
Norm layers and bare parameters have no ``in`` axis and are never masked. Dimensions in which an attention's queries and
keys meet are masked in its queries, just before that.

With masks of 0 and 1 the dense net computes what the pruned net computes, except where a LayerNorm,
or a GroupNorm of one group, takes its statistics over channels of which some are gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from oba.curvature import parameter_layers
from oba.errors import ScoreError
from oba.importance.slices import LayerSlice, groups_of, layer_slices
from oba.structures import IN, QUERY_KEY, StructureGroup


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


@dataclass(frozen=True)
class Consumer:
    """Input channels of a layer that structures own.

    Attributes:
        layer: Name of a Conv or Linear layer, or of the product of an attention's queries and keys.
        group: Name of the group.
        indices: Channels, shape (structures, channels of each), int64, on the layer's device.
    """

    layer: str
    group: str
    indices: Tensor


@dataclass(frozen=True)
class Places:
    """Where the masks of structures act, found once for many batches.

    Attributes:
        sizes: Number of structures by group, in order.
        consumers: One entry for each group and each layer that takes its structures as input.
    """

    sizes: Mapping[str, int]
    consumers: Sequence[Consumer]

    def require_all(self) -> None:
        """Refuse groups on which no mask would act.

        Raises:
            ScoreError: If there is one.
        """
        acting = {consumer.group for consumer in self.consumers}
        for name in self.sizes:
            if name not in acting:
                raise ScoreError(f"group {name!r}: no layer takes its structures as input to be masked")


def places_of(
    model: nn.Module, groups: Sequence[StructureGroup], slices: Iterable[Sequence[LayerSlice]] | None = None
) -> Places:
    """Find where masks act.

    Args:
        model: The net in whose coordinates the groups are.
        groups: Groups of structures.
        slices: The slices of each, where they are known already.

    Returns:
        The places.

    Raises:
        ScoreError: If one is the output projection of an ``nn.MultiheadAttention``, which never calls that module.
    """
    layers = parameter_layers(model)
    known = slices if slices is not None else (layer_slices(model, group) for group in groups)
    found = [
        Consumer(s.layer, group.name, s.indices)
        for group, of_group in zip(groups, known, strict=True)
        for s in of_group
        if s.axis == IN and groups_of(layers[s.layer]) == 1
    ]
    found += [
        Consumer(f"{s.layer}.product", group.name, torch.tensor(s.indices, device=next(model.parameters()).device))
        for group in groups
        for s in group.on_axis(QUERY_KEY)
    ]
    for consumer in found:
        if isinstance(layers.get(consumer.layer), NonDynamicallyQuantizableLinear):
            raise ScoreError(
                f"group {consumer.group!r}: layer {consumer.layer!r} is a part of an nn.MultiheadAttention, inside of "
                "which no mask can act; allowed: layers that the model calls"
            )
    return Places({group.name: len(group) for group in groups}, found)


@contextmanager
def at_inputs(model: nn.Module, hooks: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Change the inputs of layers while the context lasts; the model is left as found.

    Args:
        model: The net.
        hooks: By the layer's name, what is done to its input.

    Yields:
        Nothing.
    """

    def hook(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
        return lambda _module, arguments: (change(arguments[0]), *arguments[1:])

    with ExitStack() as stack:
        for name, change in hooks.items():
            stack.callback(model.get_submodule(name).register_forward_pre_hook(hook(change)).remove)
        yield


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
    with multiplied(model, places_of(model, [g for g in groups if g.name in masks]), masks):
        yield


@contextmanager
def multiplied(model: nn.Module, places: Places, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Do what :func:`masked` does, at places that are known.

    Args:
        model: The net.
        places: Where the masks act.
        masks: For each group of the places a tensor of shape (structures,).

    Yields:
        Nothing.
    """
    by_layer: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    for consumer in places.consumers:
        by_layer[consumer.layer].append((consumer.indices, masks[consumer.group]))
    hooks = {name: _multiply(parts, model.get_submodule(name)) for name, parts in by_layer.items()}
    with at_inputs(model, hooks):
        yield


def channel_dimension(layer: nn.Module) -> int:
    """Return which dimension of a layer's input holds the channels.

    Args:
        layer: A Conv or Linear layer, or the product of an attention's queries and keys.

    Returns:
        1 for a convolution, else negative.
    """
    return 1 if isinstance(layer, _ConvNd) else -1


def _multiply(parts: list[tuple[Tensor, Tensor]], layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what scales the input channels of a layer; heads and dimensions of one attention share channels."""

    def change(inputs: Tensor) -> Tensor:
        dimension = channel_dimension(layer) % inputs.dim()
        whole = inputs.new_ones(inputs.shape[dimension])
        factor = whole
        for indices, mask in parts:
            values = mask.to(inputs).repeat_interleave(indices.shape[1])
            factor = factor * whole.index_copy(0, indices.flatten(), values)
        return inputs * factor.view(-1, *[1] * (inputs.dim() - 1 - dimension))

    return change

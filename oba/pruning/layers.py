"""What pruning knows of each kind of layer: the sizes of its axes, and how it is cut.

Ordinary convolutions and linear layers lose rows (``out``) and columns (``in``) alone. A grouped
convolution (a depthwise one included) and a group norm lose whole groups: the groups that stay
compute what they did, so cutting equals masking there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from oba.errors import ModelError
from oba.models.attention import Attention
from oba.pruning.plan import Kept
from oba.structures import FEATURE, IN, OUT

Conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Convolutions; transposed ones are no part of image classifiers."""
_DIVIDED = "_oba_divided"
"""Set on a convolution that lost groups: with one left, it looks like an ordinary one."""


def find(model: nn.Module, layer: str) -> nn.Module | nn.Parameter:
    """Return the module, or the bare parameter, of a name.

    Args:
        model: The net.
        layer: Name of a module or of a parameter.

    Returns:
        What has that name.

    Raises:
        ModelError: If nothing has.
    """
    try:
        return model.get_submodule(layer)
    except AttributeError:
        pass
    try:
        return model.get_parameter(layer)
    except AttributeError as error:
        raise ModelError(f"{type(model).__name__} has no layer {layer!r}; the plan is of another model") from error


def axes(layer: nn.Module | nn.Parameter) -> dict[str, int]:
    """Return the axes on which a layer can be cut.

    Args:
        layer: A module or a bare parameter.

    Returns:
        Number of positions by axis; empty where the layer has no channels of its own or is of a
        kind that cannot be cut. Of a bare parameter the last dimension above 1 counts.
    """
    match layer:
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return {OUT: layer.out_channels, IN: layer.in_channels}
        case nn.Linear():
            return {OUT: layer.out_features, IN: layer.in_features}
        case nn.modules.batchnorm._BatchNorm() | nn.modules.instancenorm._InstanceNorm():
            return {FEATURE: layer.num_features}
        case nn.GroupNorm():
            return {FEATURE: layer.num_channels}
        case nn.LayerNorm() | nn.RMSNorm() if len(layer.normalized_shape) == 1:
            return {FEATURE: layer.normalized_shape[0]}
        case Attention():
            return layer.widths()
        case nn.PReLU() if layer.num_parameters > 1:
            return {FEATURE: layer.num_parameters}
        case nn.Parameter():
            return {FEATURE: next((n for n in reversed(layer.shape) if n > 1), 1)}
        case _:
            return {}


def coupled_blocks(layer: nn.Module | nn.Parameter) -> int:
    """Return the number of blocks into which a layer divides its channels.

    Args:
        layer: A module or a bare parameter.

    Returns:
        ``groups`` of a convolution, ``num_groups`` of a group norm, else 1. Above 1, only whole
        blocks can go.
    """
    if isinstance(layer, Conv):
        return layer.groups
    return layer.num_groups if isinstance(layer, nn.GroupNorm) else 1


def is_divided(layer: nn.Module) -> bool:
    """Tell whether a layer divides its channels into blocks, or did before all but one of them went.

    Args:
        layer: A module, as built or as :func:`cut` left it.

    Returns:
        Whether its blocks count for the dense net.
    """
    return coupled_blocks(layer) > 1 or getattr(layer, _DIVIDED, False)


def cut(model: nn.Module, name: str, kept: Mapping[str, Kept]) -> None:
    """Slice one layer's parameters and buffers and set its sizes.

    Parameters become new ones that require gradients as before; device and dtype stay.

    Args:
        model: The net, changed in place.
        name: Name of the layer or bare parameter.
        kept: What is left, by axis; sizes as :func:`axes` gives them.
    """
    layer = find(model, name)
    positions = {axis: torch.tensor(k.positions) for axis, k in kept.items()}
    match layer:
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            _cut_conv(layer, kept, positions)
        case nn.Linear():
            if OUT in positions:
                _keep(layer, ("weight", "bias"), 0, positions[OUT])
            if IN in positions:
                _keep(layer, ("weight",), 1, positions[IN])
            layer.out_features, layer.in_features = layer.weight.shape
        case Attention():
            for axis, at in positions.items():
                layer.cut(axis, at)
        case nn.Parameter():
            parent, _, attribute = name.rpartition(".")
            size = kept[FEATURE].size
            dim = max(d for d, n in enumerate(layer.shape) if n == size)
            _keep(model.get_submodule(parent), (attribute,), dim, positions[FEATURE])
        case _:
            _cut_norm(layer, kept[FEATURE], positions[FEATURE])


def whole_blocks(layer: nn.Module, axis: str, kept: Kept) -> tuple[int, ...] | None:
    """Return the blocks of a grouped layer that are kept.

    Args:
        layer: A grouped convolution or a group norm.
        axis: One of its axes.
        kept: What is left of it.

    Returns:
        Indices of the kept blocks, or ``None`` where a block is kept in part.
    """
    width = axes(layer)[axis] // coupled_blocks(layer)
    blocks = tuple(sorted({p // width for p in kept.positions}))
    return blocks if len(blocks) * width == len(kept.positions) else None


def tell_width(module: Any) -> None:
    """Set the widths that a net keeps beside those of its layers, and reads while it runs or gets a new head.

    Args:
        module: A net, changed in place where it is one of torchvision's or timm's vision transformers.
    """
    match f"{type(module).__module__}.{type(module).__qualname__}":
        case "torchvision.models.vision_transformer.VisionTransformer":
            module.hidden_dim = module.class_token.shape[-1]
        case "timm.models.vision_transformer.VisionTransformer" | "timm.models.eva.Eva":
            # What turns images into tokens may be anything; the tokens of its own are as wide as they are.
            for own in (module.cls_token, module.pos_embed):
                if own is not None:
                    module.embed_dim = module.num_features = module.head_hidden_size = own.shape[-1]


def _cut_conv(
    conv: nn.Conv1d | nn.Conv2d | nn.Conv3d, kept: Mapping[str, Kept], at: Mapping[str, torch.Tensor]
) -> None:
    if OUT in at:
        _keep(conv, ("weight", "bias"), 0, at[OUT])
        conv.out_channels = len(at[OUT])
    if IN in at:
        if conv.groups > 1:
            conv.groups = conv.groups * len(at[IN]) // kept[IN].size
            setattr(conv, _DIVIDED, True)
        else:
            _keep(conv, ("weight",), 1, at[IN])
        conv.in_channels = len(at[IN])


def _cut_norm(layer: nn.Module, kept: Kept, at: torch.Tensor) -> None:
    _keep(layer, ("weight", "bias", "running_mean", "running_var"), 0, at)
    match layer:
        case nn.GroupNorm():
            layer.num_groups = max(1, layer.num_groups * len(at) // kept.size)
            layer.num_channels = len(at)
        case nn.LayerNorm() | nn.RMSNorm():
            layer.normalized_shape = (len(at),)
        case nn.PReLU():
            layer.num_parameters = len(at)
        case _:
            cast("nn.BatchNorm2d", layer).num_features = len(at)


def _keep(module: nn.Module, names: tuple[str, ...], dim: int, at: torch.Tensor) -> None:
    """Replace tensors of a module by their kept part along one dimension."""
    for name in names:
        tensor = getattr(module, name, None)
        if tensor is None:
            continue
        part = tensor.detach().index_select(dim, at.to(tensor.device))
        is_parameter = isinstance(tensor, nn.Parameter)
        setattr(module, name, nn.Parameter(part, requires_grad=tensor.requires_grad) if is_parameter else part)

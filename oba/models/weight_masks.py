"""Masks of single weights: a masked weight is exactly 0, in the net, while it trains, and on disk.

On disk a masked weight has no value at all: of a weight W the file holds the kept values in order, shape (kept,), and
as ``W:mask`` one bit for every element, packed into bytes. At a fraction d of float32 weights that is ``4 d + 1/8``
bytes for a weight in the place of 4.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oba.errors import ModelError

Masks = Mapping[str, Tensor]
"""For each weight that may lose elements, by its parameter's name, what is kept of it: bool, in its shape."""
_SUFFIX = ":mask"
_BITS = 2 ** torch.arange(8, dtype=torch.uint8)


def apply_masks(model: nn.Module, masks: Masks) -> None:
    """Set the masked weights of a net to 0.

    Args:
        model: The net, changed in place.
        masks: On the net's device.
    """
    with torch.no_grad():
        for name, kept in masks.items():
            model.get_parameter(name).masked_fill_(~kept, 0.0)


def pack(tensors: Mapping[str, Tensor], masks: Masks) -> dict[str, Tensor]:
    """Return a state dict as it is stored.

    Args:
        tensors: The net's state dict.
        masks: Its masks.

    Returns:
        The tensors, masked ones as their kept values and their packed masks.

    Raises:
        ModelError: If a masked weight is not 0.
    """
    packed = dict(tensors)
    for name, kept in masks.items():
        weight = tensors[name]
        if wrong := int(weight[~kept].count_nonzero()):
            raise ModelError(f"weight {name!r}: {wrong} masked elements are not 0; they must stay 0 once they are gone")
        packed[name] = weight[kept]
        packed[name + _SUFFIX] = _bytes(kept.cpu())
    return packed


def unpack(tensors: Mapping[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return what :func:`pack` stored.

    Args:
        tensors: The stored tensors.
        model: The net that they are of, for the shapes of its weights.

    Returns:
        The state dict, and the masks in the order of ``named_parameters()``.

    Raises:
        ModelError: If a mask does not fit its weight.
    """
    whole = dict(tensors)
    masks: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if name + _SUFFIX not in whole:
            continue
        bits = (whole.pop(name + _SUFFIX)[:, None] & _BITS).bool().flatten()
        if not 0 <= len(bits) - parameter.numel() < 8 or bits.sum() != len(whole[name]):
            raise ModelError(f"the mask of weight {name!r} has {len(bits)} bits for {parameter.numel()} elements")
        kept = bits[: parameter.numel()].reshape(parameter.shape)
        whole[name] = torch.zeros(kept.shape, dtype=whole[name].dtype).masked_scatter_(kept, whole[name])
        masks[name] = kept
    return whole, masks


def _bytes(kept: Tensor) -> Tensor:
    """Pack a mask, eight elements a byte, the first in the lowest bit."""
    bits = kept.flatten().to(torch.uint8)
    return F.pad(bits, (0, -len(bits) % 8)).view(-1, 8).mul_(_BITS).sum(1, dtype=torch.uint8)

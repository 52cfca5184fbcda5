"""A net that several ranks train together: gradients of the whole batch, and one set of statistics."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from oba import ranks


def distribute(model: nn.Module, device: torch.device) -> nn.Module:
    """Make backward passes average gradients over the ranks; with one rank, return the net itself.

    Args:
        model: The net, on its device, with the same parameters on every rank.
        device: Where it is.

    Returns:
        torch's DistributedDataParallel of the net.
    """
    if ranks.count() == 1:
        return model
    from torch.nn.parallel import DistributedDataParallel

    devices = [device] if device.type == "cuda" else None
    with warnings.catch_warnings():
        # What torch 2.14 names in its place also leaves buffers alone, and is unknown to earlier versions.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
        # Looking for unused parameters also keeps torch from dividing the gradients into other buckets after the first
        # step: sums over more than two ranks would then differ in their last bits after a restart.
        return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False, find_unused_parameters=True)


def kept_back(net: nn.Module, wanted: bool) -> AbstractContextManager[Any]:
    """Return the context of a backward pass whose gradients are only added up on each rank, if that is wanted.

    Args:
        net: What :func:`distribute` returned.
        wanted: Whether another pass of the same step follows.

    Returns:
        The context of forward and backward pass.
    """
    no_sync: Any = getattr(net, "no_sync", nullcontext)
    return no_sync() if wanted else nullcontext()


def fractions(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that hold fractions, such as running statistics, which every rank measures on its own images.

    Args:
        model: The net.

    Returns:
        The buffers themselves, by name.
    """
    return {name: buffer for name, buffer in model.named_buffers() if buffer.is_floating_point()}


def average_statistics(model: nn.Module) -> None:
    """Give all ranks the mean of their running statistics, and of every other buffer that holds fractions.

    Args:
        model: The net, changed in place.
    """
    if ranks.count() == 1:
        return
    buffers = list(fractions(model).values())
    ranks.sum_over_ranks(buffers)
    for buffer in buffers:
        buffer.div_(ranks.count())

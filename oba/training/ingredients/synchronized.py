"""Batch norms whose statistics are those of the whole batch, over all ranks, by torch and timm."""

from __future__ import annotations

from timm.layers import convert_sync_batchnorm  # pyright: ignore[reportPrivateImportUsage]
from torch import nn

from oba.errors import TrainingError


def make(model: nn.Module) -> nn.Module:
    """Synchronise the batch norms of a net.

    Args:
        model: The net, on a GPU; its norms are replaced by such with the same parameters and statistics.

    Returns:
        The net.

    Raises:
        TrainingError: If the net is not on a GPU, where alone torch can do this.
    """
    if next(model.parameters()).device.type != "cuda":
        raise TrainingError("runtime.sync_batchnorm: true, but training runs on a CPU; allowed on GPUs")
    return convert_sync_batchnorm(model)

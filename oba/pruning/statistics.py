"""What calibration images say of a net: its loss, and the statistics of its batch norms."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from oba import ranks
from oba.errors import ScoreError
from oba.modes import evaluating
from oba.pruning.cut import Images


@torch.no_grad()
def mean_loss(model: nn.Module, images: Images) -> float | None:
    """Return the mean cross-entropy over the calibration images, in eval mode.

    Args:
        model: The net; left as found.
        images: The images.

    Returns:
        Nats per image; None where it is not finite, as it may be between a cut and an update.
    """
    total, count = torch.zeros((), dtype=torch.float64), 0
    with evaluating(model):
        for inputs, targets in ranks.own(images()):
            total = total.to(inputs.device) + F.cross_entropy(model(inputs).float(), targets, reduction="sum").double()
            count += len(targets)
    ranks.sum_over_ranks([total])
    mean = (total / ranks.total(count)).item()
    return mean if math.isfinite(mean) else None


def tracking_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms that keep statistics, those that :func:`recalibrate_norms` changes."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


@torch.no_grad()
def recalibrate_norms(model: nn.Module, images: Images) -> None:
    """Replace all batch-norm statistics by their mean over batches, weighted by images.

    The batch norms alone are in train mode meanwhile. Each batch b of n_b images enters the running mean
    with the momentum n_b / (n_1 + … + n_b); with equal batches this is torch's own ``momentum=None``.
    A batch of one image has no variance and is left out. Ranks divide the batches, and their running means are
    averaged by the images that each has seen: in train mode, no statistic depends on another batch.

    Args:
        model: The net; only the batch norms' buffers change.
        images: The images, on the net's device.

    Raises:
        ScoreError: If no batch holds two images.
    """
    norms = tracking_norms(model)
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    seen = 0
    try:
        with evaluating(model):
            for norm in norms:
                norm.reset_running_stats()
                norm.train()
            for inputs, _ in ranks.own(images()):
                if len(inputs) == 1:
                    continue
                seen += len(inputs)
                for norm in norms:
                    norm.momentum = len(inputs) / seen
                model(inputs)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    if not (total := ranks.total(seen)):
        raise ScoreError("batch-norm statistics cannot be measured: no calibration batch holds two images or more")
    for norm in norms:
        _join(norm, seen / total)


def _join(norm: _BatchNorm, share: float) -> None:
    """Replace the statistics of one rank's batches, a share of all images, by those of all batches."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    means = [statistic.double() * share for statistic in (norm.running_mean, norm.running_var)]
    ranks.sum_over_ranks([*means, norm.num_batches_tracked])
    norm.running_mean.copy_(means[0])
    norm.running_var.copy_(means[1])

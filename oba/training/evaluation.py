"""Loss and accuracy of a net."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from oba import ranks
from oba.data.bundle import Split
from oba.errors import TrainingError
from oba.modes import evaluating

_CLASSES_FOR_TOP5 = 10
_ERRORS = 10_000
"""At most so many pairs of classes are told: all of up to a hundred classes."""


@dataclass(frozen=True)
class Metrics:
    """How well a net classifies; accuracies are fractions."""

    loss: float
    """Mean cross-entropy per image, in nats."""
    top1: float
    top5: float | None
    """None with fewer than 10 classes, where it says little."""
    images: int
    confusion: torch.Tensor = field(compare=False, repr=False)
    """On the CPU, shape (classes, classes), int64: images of a class (row) by what they were taken for (column)."""

    def figures(self) -> dict[str, Any]:
        """Return the four numbers, by their names."""
        return {"loss": self.loss, "top1": self.top1, "top5": self.top5, "images": self.images}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a net's forward pass runs.

    Args:
        device: Where.
        precision: ``fp32``, or ``bf16`` or ``fp16`` for automatic mixed precision.

    Returns:
        A context manager.
    """
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=kind, enabled=precision != "fp32")


@torch.no_grad()
def evaluate(
    model: nn.Module,
    split: Split,
    *,
    batch_size: int = 256,
    device: torch.device,
    precision: str = "fp32",
    label: str = "",
    cause: str = "the net's weights or statistics are not finite",
) -> Metrics:
    """Measure a net on a split, in eval mode; every image counts the same. Ranks divide the images among them.

    Args:
        model: The net, on ``device``; its modes stay as they were.
        split: The images.
        batch_size: Images per batch.
        device: Where the net is.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        label: What is measured, for messages: ``dense resnet8 seed 0, epoch 3``.
        cause: What a loss that is not finite likely comes from, for the message.

    Returns:
        The metrics.

    Raises:
        TrainingError: If there are no images, or the loss is not finite.
    """
    totals = torch.zeros(3, dtype=torch.float64, device=device)  # read once, so that no batch waits for the device
    answers: list[torch.Tensor] = []
    images = classes = 0
    with evaluating(model):
        for inputs, targets in split.batches(batch_size, part=(ranks.rank(), ranks.count())):
            if not len(targets):
                continue
            with autocast(device, precision):
                logits = model(inputs)
            logits = logits.float()
            images += len(targets)
            classes = logits.shape[1]
            best = logits.topk(min(5, classes)).indices
            hits = best == targets[:, None]
            totals += torch.stack([F.cross_entropy(logits, targets, reduction="sum"), hits[:, 0].sum(), hits.sum()])
            answers.append(targets * classes + best[:, 0])
    where = f"{label}: " if label else ""
    ranks.sum_over_ranks([totals])
    images, classes = ranks.total(images), ranks.broadcast(classes)  # the first rank has an image of every batch
    if images == 0:
        raise TrainingError(f"{where}there are no images to evaluate on; the split is empty")
    loss, top1, top5 = (totals / images).tolist()
    if not isfinite(loss):
        raise TrainingError(f"{where}the loss on {images} images is {loss}: {cause}")
    # On the CPU: what CUDA counts with has no deterministic kernel in every version.
    mine = torch.cat(answers).cpu() if answers else torch.empty(0, dtype=torch.int64)
    confusion = torch.bincount(mine, minlength=classes**2).reshape(classes, classes)
    ranks.sum_over_ranks([confusion])
    return Metrics(loss, top1, top5 if classes >= _CLASSES_FOR_TOP5 else None, images, confusion)


def frequent_errors(confusion: torch.Tensor) -> list[list[int]]:
    """Return which classes were taken for which others.

    Args:
        confusion: The matrix of :class:`Metrics`.

    Returns:
        Class, what it was taken for, and number of images; the most frequent first, and at most 10,000.
    """
    wrong = confusion - confusion.diagonal().diag()
    pairs = [[row, column, int(wrong[row, column])] for row, column in wrong.nonzero().tolist()]
    return sorted(pairs, key=lambda pair: -pair[2])[:_ERRORS]

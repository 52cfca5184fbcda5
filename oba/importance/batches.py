"""Batches of examples, and the checked loss of a model on one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from oba.curvature.watch import first_line
from oba.errors import ScoreError

Loss = Callable[[Any, Any], Tensor]
"""Maps a model's outputs and the targets to the mean loss over the batch, a scalar."""


@dataclass(frozen=True)
class Batch:
    """Some examples.

    Attributes:
        index: Number of the batch, from 0.
        inputs: Shape (N, ...).
        targets: Shape (N, ...).
        loss: The loss L.
    """

    index: int
    inputs: Tensor
    targets: Any
    loss: Loss

    @property
    def examples(self) -> int:
        """Number of examples N."""
        return self.inputs.shape[0]

    def loss_of(self, outputs: Any) -> Tensor:
        """Return the loss of what a model made of the inputs.

        Args:
            outputs: The model's outputs.

        Returns:
            L, a finite scalar attached to the outputs.

        Raises:
            ScoreError: If the loss fails, is no scalar or is not finite, or a target is out of range.
        """
        if isinstance(outputs, Tensor) and outputs.dim() == 2 and _takes_classes(self.loss):
            self._check_classes(outputs.shape[1])
        try:
            value = self.loss(outputs, self.targets)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ScoreError(f"batch {self.index}: the loss failed: {first_line(error)}") from error
        if value.dim() != 0:
            raise ScoreError(f"batch {self.index}: the loss has shape {tuple(value.shape)}, expected a scalar")
        if not value.isfinite():
            raise ScoreError(f"batch {self.index}: the loss is {value.item()}, expected a finite number")
        return value

    def _check_classes(self, classes: int) -> None:
        """Refuse class numbers that the model does not have, before a GPU fails on them beyond repair."""
        if isinstance(self.targets, Tensor) and not self.targets.is_floating_point():
            low, high = int(self.targets.min()), int(self.targets.max())
            if low < 0 or high >= classes:
                wrong = low if low < 0 else high
                raise ScoreError(f"batch {self.index}: target {wrong} is out of range; allowed: 0..{classes - 1}")


def plain_cross_entropy(loss: Loss) -> bool:
    """Tell whether a loss is the mean cross-entropy, smoothed or not, of unweighted classes.

    Args:
        loss: The loss.

    Returns:
        True for ``cross_entropy``, for it with a ``label_smoothing``, and for such a ``CrossEntropyLoss``.
    """
    if isinstance(loss, nn.CrossEntropyLoss):
        return loss.weight is None and loss.reduction == "mean" and loss.ignore_index < 0
    if isinstance(loss, partial):
        return loss.func is F.cross_entropy and not loss.args and set(loss.keywords) <= {"label_smoothing"}
    return loss is F.cross_entropy


def _takes_classes(loss: Loss) -> bool:
    loss = loss.func if isinstance(loss, partial) else loss
    return loss in (F.cross_entropy, F.nll_loss) or isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss))


def numbered(batches: Iterable[tuple[Tensor, Any]], loss: Loss) -> Iterator[Batch]:
    """Number batches and give them the loss.

    Args:
        batches: Pairs of inputs (N, ...) and targets, consumed one by one.
        loss: The loss L.

    Yields:
        Each batch.

    Raises:
        ScoreError: If there is no batch, or one without examples.
    """
    index = -1
    for index, (inputs, targets) in enumerate(batches):
        if inputs.shape[0] == 0:
            raise ScoreError(f"batch {index} has no examples")
        yield Batch(index, inputs, targets, loss)
    if index < 0:
        raise ScoreError("no batch to score on: the iterable of batches is empty")

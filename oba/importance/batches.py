"""Batches of examples, and the checked loss of a model on one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oba import ranks
from oba.curvature.running_modules import first_line
from oba.errors import ScoreError
from oba.seeds import derive_seed

Loss = Callable[[Any, Any], Tensor]
"""Maps a model's outputs and the targets to the mean loss over the batch, a scalar."""


class Doubts:
    """What may be wrong with batches, found on their device and looked at once: a GPU need not wait for its host."""

    def __init__(self) -> None:
        self._found: list[tuple[Tensor, Tensor, Callable[[float], str]]] = []

    def note(self, wrong: Tensor, value: Tensor, message: Callable[[float], str]) -> None:
        """Remember a doubt.

        Args:
            wrong: Whether it is justified, a scalar.
            value: What the message shows, a scalar.
            message: Makes the message of the value.
        """
        self._found.append((wrong, value.detach().double(), message))

    def settle(self) -> None:
        """Look at all doubts.

        Raises:
            ScoreError: If one is justified; the first one counts.
        """
        if self._found and (justified := torch.stack([wrong for wrong, _, _ in self._found]).nonzero()).numel():
            _, value, message = self._found[int(justified[0])]
            raise ScoreError(message(value.item()))


@dataclass(frozen=True)
class Batch:
    """Some examples.

    Attributes:
        index: Number of the batch, from 0, among those of all ranks.
        inputs: Shape (N, ...).
        targets: Shape (N, ...).
        loss: The loss L.
        doubts: Where faults of numbers are noted; without it they are raised at once.
    """

    index: int
    inputs: Tensor
    targets: Any
    loss: Loss
    doubts: Doubts | None = None

    @property
    def examples(self) -> int:
        """Number of examples N."""
        return self.inputs.shape[0]

    def generator(self, seed: int) -> torch.Generator:
        """Return what draws on this batch: the same whoever draws on the others, and however often.

        Args:
            seed: Seed of all that is drawn.

        Returns:
            A fresh generator, on the CPU.
        """
        return torch.Generator().manual_seed(derive_seed(seed, "batch", self.index))

    def loss_of(self, outputs: Any) -> Tensor:
        """Return the loss of what a model made of the inputs.

        Args:
            outputs: The model's outputs.

        Returns:
            L, a finite scalar attached to the outputs.

        Raises:
            ScoreError: If the loss fails, is no scalar or is not finite, or a target is out of range.
        """
        doubts, targets = self.doubts or Doubts(), self.targets
        if isinstance(outputs, Tensor) and outputs.dim() == 2 and _takes_classes(self.loss):
            targets = self._checked_classes(outputs.shape[1], doubts)
        try:
            value = self.loss(outputs, targets)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ScoreError(f"batch {self.index}: the loss failed: {first_line(error)}") from error
        if value.dim() != 0:
            raise ScoreError(f"batch {self.index}: the loss has shape {tuple(value.shape)}, expected a scalar")
        where = f"batch {self.index}: the loss is"
        doubts.note(~value.isfinite(), value, lambda v: f"{where} {v}, expected a finite number")
        if self.doubts is None:
            doubts.settle()
        return value

    def _checked_classes(self, classes: int, doubts: Doubts) -> Any:
        """Refuse class numbers that the model does not have; return none, since a GPU fails on them beyond repair."""
        targets = self.targets
        if not isinstance(targets, Tensor) or targets.is_floating_point():
            return targets
        low, high = targets.min(), targets.max()
        message = f"is out of range; allowed: 0..{classes - 1}"
        wrong = torch.where(low < 0, low, high)
        doubts.note((low < 0) | (high >= classes), wrong, lambda v: f"batch {self.index}: target {v:.0f} {message}")
        return targets.clamp(0, classes - 1)


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

    Ranks divide batches whole among them, because some criteria depend on what a batch is.

    Args:
        batches: Pairs of inputs (N, ...) and targets, consumed one by one.
        loss: The loss L.

    Yields:
        This rank's batches; there may be none.

    Raises:
        ScoreError: If there is no batch, or one without examples.
    """
    index, doubts = -1, Doubts()
    for index, (inputs, targets) in enumerate(batches):
        if index % ranks.count() != ranks.rank():
            continue
        if inputs.shape[0] == 0:
            raise ScoreError(f"batch {index} has no examples")
        yield Batch(index, inputs, targets, loss, doubts if inputs.is_cuda else None)
    if index < 0:
        raise ScoreError("no batch to score on: the iterable of batches is empty")
    doubts.settle()

r"""What the loss says of whole filters, by the Fisher information: what the K-FAC family of criteria shares.

At a minimum of the loss, removing weights θ changes it by :math:`\tfrac12 \theta^T F \theta` nats to second order, with
the Fisher information :math:`F = E_n[\nabla_n \nabla_n^T]` of single examples' gradients. The classes of the examples
are drawn from what the model says of them (then F is the Gauss-Newton matrix, in expectation), or are those given
(*empirical* Fisher, a different matrix).

Only the filters that make a structure's channels count, with their biases, and not what reads the channels: once they
are gone nothing reads them. The Fisher information of different layers is taken for independent, so the losses of a
structure's filters in several layers (a residual stream) add up.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from oba.curvature.passes import Loss
from oba.errors import ModelError, ScoreError
from oba.importance.batches import Batch, plain_cross_entropy
from oba.importance.criterion import Criterion
from oba.importance.hessians import coupling_norm
from oba.importance.logits import draw_classes, require_logits
from oba.importance.scores import StructureScores
from oba.importance.slices import LayerSlice, layer_slices
from oba.options import Options
from oba.structures import OUT, StructureGroup

Prices = Iterator[tuple[str, Callable[[Tensor], Tensor]]]
"""Layers, and what makes of filters (sets, filters of each) the price of each set, shape (sets,)."""


class FilterOptions(Options):
    """Options of criteria and updates that know the Fisher information."""

    labels: Literal["sampled", "given"] = "sampled"
    """Classes of the images: drawn from the model's own probabilities (`sampled`: the true Fisher information), or
    those of the data set (`given`: the empirical Fisher information, a different matrix)."""


class DampedFilterOptions(FilterOptions):
    """Options of those that invert it."""

    damping: Annotated[float, Field(ge=0)] = 0.01
    """What is added to the diagonal of a Kronecker factor before it is inverted, as a fraction of its mean."""


FO = TypeVar("FO", bound=FilterOptions)


def summed_loss(batch: Batch, labels: str, seed: int) -> Loss:
    """Return the loss of which single examples' gradients make the Fisher information.

    Args:
        batch: The examples.
        labels: ``"sampled"`` or ``"given"``.
        seed: Of the classes that are drawn, the same each time that the loss is asked for.

    Returns:
        Maps a model's outputs to the sum of the examples' losses.

    Raises:
        ScoreError: If classes are to be drawn and the loss is not cross-entropy.
    """

    def sampled(outputs: Any) -> Tensor:
        require_logits(outputs, "labels: 'sampled'")
        classes = draw_classes(outputs.detach().softmax(1), 1, batch.generator(seed))[:, 0]
        return F.cross_entropy(outputs, classes, reduction="sum")

    def given(outputs: Any) -> Tensor:
        return batch.loss_of(outputs) * batch.examples

    if labels == "given":
        return given
    if not plain_cross_entropy(batch.loss):
        raise ScoreError("labels: 'sampled' holds for cross-entropy alone; allowed with another loss: labels: given")
    return sampled


def require_uncoupled(model: nn.Module, who: str) -> None:
    """Refuse a model whose examples have no gradients of their own.

    Args:
        model: The model, in eval mode.
        who: What asks for them.

    Raises:
        ScoreError: If a batch norm uses the statistics of the batch.
    """
    if norm := coupling_norm(model):
        raise ScoreError(f"{who} needs examples that do not depend on each other, but {norm!r} normalises by the batch")


def filters_of(group: StructureGroup, slices: Iterable[LayerSlice]) -> list[LayerSlice]:
    """Return the filters that make a group's channels.

    Args:
        group: The group.
        slices: Its slices of Conv and Linear layers.

    Returns:
        Those on the axis ``"out"``.

    Raises:
        ScoreError: If there is none.
    """
    if found := [s for s in slices if s.axis == OUT]:
        return found
    raise ScoreError(f"group {group.name!r}: no Conv or Linear layer makes its structures")


class FilterCriterion(Criterion[FO]):
    """A criterion that predicts the change of the loss when filters go, in nats."""

    in_nats = True

    def require(self, model: nn.Module, groups: Sequence[StructureGroup]) -> None:
        """Refuse groups without filters, and norms that couple examples."""
        for group in groups:
            filters_of(group, layer_slices(model, group))
        require_uncoupled(model, f"criterion {self.name!r}")

    def _loss(self, batch: Batch) -> Loss:
        return summed_loss(batch, self.options.labels, self.seed)


class KroneckerCriterion(FilterCriterion[FO]):
    """A criterion that takes each layer's Fisher information for a Kronecker product (:mod:`oba.curvature.kronecker`).

    The factors are means over all batches, and several passes may be needed for them: images are held while it lasts.
    """

    @abstractmethod
    def _prices(self, model: nn.Module, batches: Sequence[tuple[Tensor, Loss]], layers: Sequence[str]) -> Prices:
        """Yield the prices of each layer's filters."""

    def score(
        self, model: nn.Module, groups: Sequence[StructureGroup], batches: Iterable[Batch | None]
    ) -> StructureScores:
        """Score structures by their filters.

        Args:
            model: The model, in the mode for scoring.
            groups: The groups.
            batches: The examples.

        Returns:
            Predicted changes of the loss, in nats.

        Raises:
            ScoreError: If a group has no filters, or a layer's factors cannot be found.
        """
        self.require(model, groups)
        # Faults of a batch are raised at once: the batches have all been taken before the first of them is used.
        held = [replace(batch, doubts=None) for batch in batches if batch is not None]
        own = {group.name: filters_of(group, layer_slices(model, group)) for group in groups}
        layers = dict.fromkeys(s.layer for slices in own.values() for s in slices)
        scores = {group.name: torch.zeros(len(group), dtype=torch.float64) for group in groups}
        try:
            for layer, price in self._prices(model, [(b.inputs, self._loss(b)) for b in held], list(layers)):
                for name, slices in own.items():
                    for s in slices:
                        if s.layer == layer:
                            scores[name] += price(s.indices).cpu()
        except ModelError as error:
            raise ScoreError(f"criterion {self.name!r}: {error}") from error
        return StructureScores(scores, in_nats=True)

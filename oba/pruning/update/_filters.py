"""What the updates of the K-FAC family share: steps of the filters that a layer still has."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from oba.curvature.passes import Loss
from oba.curvature.unfold import MatrixLayer, group_count, input_columns, matrix_layer
from oba.importance.batches import numbered
from oba.importance.filter_fisher import DampedFilterOptions, require_uncoupled, summed_loss
from oba.importance.state import left_as_found
from oba.pruning.cut import Cut, Images, Update
from oba.pruning.statistics import recalibrate_norms
from oba.structures import IN, OUT


@dataclass(frozen=True)
class FilterCut:
    """A layer that lost filters.

    Attributes:
        name: Its name.
        layer: The layer before the cut.
        kept: Filters that stay, int64.
        gone: Filters that went, int64.
    """

    name: str
    layer: MatrixLayer
    kept: Tensor
    gone: Tensor


class FilterUpdate(Update[DampedFilterOptions]):
    """Moves the filters that stay in the layers that lost filters, then recalibrates the norms.

    Grouped convolutions stay as they are: their groups go whole, and those that stay do not depend on them.
    """

    @abstractmethod
    def _steps(self, cut: Cut, images: Images, layers: Sequence[FilterCut]) -> Iterator[Tensor]:
        """Yield for each layer the step of its kept filters with their biases, over all columns before the cut."""

    def adjust(self, cut: Cut, images: Images) -> None:
        """Add the steps to the filters that stay.

        Args:
            cut: What was removed.
            images: The calibration images.

        Raises:
            ModelError: If a layer does not compute ``W X + b`` of its own weight and padding.
            ScoreError: If the net's norms couple images, or a layer's factors cannot be found.
        """
        layers = [
            _filter_cut(cut, name)
            for name, axis in cut.plan.axes
            if axis == OUT
            and isinstance(layer := cut.before.get_submodule(name), MatrixLayer)
            and group_count(layer) == 1
        ]
        with left_as_found(cut.before, "eval"):
            require_uncoupled(cut.before, f"update {self.name!r}")
            for layer, step in zip(layers, self._steps(cut, images, layers), strict=True):
                _add(cut, layer, step)
        recalibrate_norms(cut.after, images)

    def _batches(self, images: Images) -> Iterable[tuple[Tensor, Loss]]:
        """Return the images and their losses, with the same classes drawn each time they are gone through."""
        return _Batches(images, self.options.labels)


@dataclass(frozen=True)
class _Batches:
    images: Images
    labels: str

    def __iter__(self) -> Iterator[tuple[Tensor, Loss]]:
        for batch in numbered(self.images(), F.cross_entropy):
            yield batch.inputs, summed_loss(batch, self.labels, seed=0)


def _filter_cut(cut: Cut, name: str) -> FilterCut:
    layer, kept = matrix_layer(cut.before, name), cut.kept(name, OUT)
    everything = torch.arange(layer.weight.shape[0], device=kept.device)
    return FilterCut(name, layer, kept, everything[~torch.isin(everything, kept)])


@torch.no_grad()
def _add(cut: Cut, of: FilterCut, step: Tensor) -> None:
    """Add a step to the weights and biases that are left."""
    layer = matrix_layer(cut.after, of.name)
    columns = input_columns(of.layer, cut.kept(of.name, IN))
    layer.weight.add_(step[:, columns].reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.add_(step[:, -1])

r"""Empirical Fisher information of a structure's mask ``fisher`` (Theis et al., 2018; Liu et al., ICML 2021).

.. math:: s_c = E_n\Big[\Big(\frac{\partial L_n}{\partial m_{nc}}\Big)^2\Big]

over single examples n, with masks behind norm and activation. With the statistics of the batch (``norm="train"``) a
mask on one example also acts on the others: then :math:`L_n` is N times the batch's loss.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from oba.importance.batches import Batch
from oba.importance.criterion import BatchScores, Criterion, DataOptions, GroupOptions, Target
from oba.importance.examples import ExampleMasks
from oba.importance.masks import places_of
from oba.importance.targets import places_of_targets, split
from oba.structures import StructureGroup


class FisherOptions(DataOptions, GroupOptions):
    """Options of ``fisher``."""


class Fisher(Criterion[FisherOptions]):
    """Mean square over examples of the derivative with respect to the structure's mask: one pass each way."""

    def require(self, model: nn.Module, groups: Sequence[StructureGroup]) -> None:
        """Refuse groups on which no mask can act."""
        places_of(model, groups).require_all()

    def batch_scores(self, model: nn.Module, targets: Sequence[Target], batch: Batch | None) -> BatchScores:
        """Score structures."""
        assert batch is not None
        masks = ExampleMasks(model, places_of_targets(model, targets), batch.inputs)
        derivatives = masks.derivative(batch.loss_of(masks.outputs), last=True) * batch.examples
        return BatchScores(split(derivatives.square().mean(0), targets))


CRITERION = Fisher

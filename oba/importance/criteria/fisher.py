r"""Empirical Fisher information of a mask ``fisher`` (Theis et al., 2018; Liu et al., ICML 2021).

.. math:: s_c = E_n\Big[\Big(\frac{\partial L_n}{\partial m_{nc}}\Big)^2\Big], \qquad
          s_i = E_n\Big[\Big(\frac{\partial L_n}{\partial \theta_i}\Big)^2\Big]\, \theta_i^2

of a structure c and of a single weight i, over single examples n; masks of structures lie behind norm and activation.
With the statistics of the batch (``norm="train"``) a mask on one example also acts on the others: then :math:`L_n` is
N times the batch's loss.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor, nn

from oba.curvature.squared_gradients import squared_gradients
from oba.importance.batches import Batch
from oba.importance.criterion import BatchScores, Criterion, DataOptions, GroupOptions, Target
from oba.importance.examples import ExampleMasks
from oba.importance.masks import places_of
from oba.importance.targets import places_of_targets, split
from oba.importance.weights import require_matrix_weights
from oba.structures import StructureGroup


class FisherOptions(DataOptions, GroupOptions):
    """Options of ``fisher``."""


class Fisher(Criterion[FisherOptions]):
    """Mean square over examples of the derivative with respect to a mask: one pass each way."""

    def require(self, model: nn.Module, groups: Sequence[StructureGroup]) -> None:
        """Refuse groups on which no mask can act."""
        places_of(model, groups).require_all()

    def require_weights(self, model: nn.Module, names: Collection[str]) -> None:
        """Refuse weights that are used in other ways than by a Conv or Linear layer."""
        require_matrix_weights(self.name, model, names)

    def parameter_scores(self, model: nn.Module, batch: Batch | None) -> dict[str, Tensor]:
        """Score every weight of a Conv or Linear layer."""
        assert batch is not None
        squares = squared_gradients(model, batch.inputs, lambda outputs: batch.loss_of(outputs) * batch.examples)
        weights = {name: model.get_parameter(name).detach().double() for name in squares}
        return {name: square / batch.examples * weights[name].square() for name, square in squares.items()}

    def batch_scores(self, model: nn.Module, targets: Sequence[Target], batch: Batch | None) -> BatchScores:
        """Score structures."""
        assert batch is not None
        masks = ExampleMasks(model, places_of_targets(model, targets), batch.inputs)
        derivatives = masks.derivative(batch.loss_of(masks.outputs), last=True) * batch.examples
        return BatchScores(split(derivatives.square().mean(0), targets))


CRITERION = Fisher

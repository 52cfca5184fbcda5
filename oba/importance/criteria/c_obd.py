r"""Optimal Brain Damage of filters ``c-obd``: the diagonal of the Fisher information.

.. math:: s_i = \tfrac12\, \theta_i^2\, F_{ii}, \qquad
          F_{ii} = E_n\Big[\Big(\frac{\partial L_n}{\partial \theta_i}\Big)^2\Big]

of each weight and bias i, in nats; a filter's score is the sum over its weights and its bias, as if they did not depend
on each other.

LeCun et al., 1989; for filters Wang et al. (EigenDamage), ICML 2019, section 3.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from oba.curvature.squared_gradients import squared_gradients
from oba.errors import ModelError, ScoreError
from oba.importance.batches import Batch
from oba.importance.criterion import BatchScores, Target
from oba.importance.filter_fisher import FilterCriterion, FilterOptions, filters_of
from oba.importance.slices import channel_sums
from oba.importance.weights import require_matrix_weights
from oba.structures import OUT


class CObd(FilterCriterion[FilterOptions]):
    """``½ θ² E[g²]`` of weights, and its sums over filters."""

    def require_weights(self, model: nn.Module, names: Collection[str]) -> None:
        """Refuse norms that couple examples, and weights that are used in other ways than by a Conv or Linear layer."""
        self.require(model, [])
        require_matrix_weights(self.name, model, names)

    def parameter_scores(self, model: nn.Module, batch: Batch | None) -> dict[str, Tensor]:
        """Score the weights and biases of Conv and Linear layers that the loss depends on, frozen or not."""
        assert batch is not None
        self.require(model, [])
        try:
            squares = squared_gradients(model, batch.inputs, self._loss(batch))
        except ModelError as error:
            raise ScoreError(f"criterion {self.name!r}: {error}") from error
        parameters = dict(model.named_parameters())
        half = 0.5 / batch.examples
        return {name: half * square * parameters[name].detach().double().square() for name, square in squares.items()}

    def batch_scores(self, model: nn.Module, targets: Sequence[Target], batch: Batch | None) -> BatchScores:
        """Add up the scores of each structure's filters."""
        filters = {target.group.name: filters_of(target.group, target.slices) for target in targets}
        wanted = {(s.layer, OUT) for own in filters.values() for s in own}
        sums = channel_sums(model, self.parameter_scores(model, batch), wanted)
        if missing := sorted(layer for layer, axis in wanted if (layer, axis) not in sums):
            raise ScoreError(f"no derivative of the loss reaches the outputs of layer {missing[0]!r}")
        rows = {
            name: torch.stack([sums[s.layer, OUT][s.indices].sum(1) for s in own]).sum(0, keepdim=True)
            for name, own in filters.items()
        }
        return BatchScores(rows)


CRITERION = CObd

r"""Optimal Brain Apoptosis ``oba`` (Sun et al., ICLR 2025, Algorithm 1): curvature with frozen Jacobians.

.. math:: s_i = \theta_i \lambda_{\theta_i}

with the curvature adjoints λ of :mod:`oba.curvature.adjoints`: of the Hessian-vector product ``θ ⊙ Hθ`` it keeps the
cross terms between the two factors of every product (weight and input, query and key, attention and value, gates) and
holds all other Jacobians, and the curvature of the loss, constant.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor, nn

from oba.curvature import channel_curvature, curvature_adjoints, directed_parameters
from oba.importance.batches import Batch
from oba.importance.criterion import Criterion, DerivativeOptions
from oba.importance.differentiated import differentiated_sums, times_values
from oba.importance.slices import Channels


class Oba(Criterion[DerivativeOptions]):
    """``θ_i λ_i`` on the weights and biases of Conv, Linear and attention projections, trainable or not."""

    ignores_scale = True

    def __init__(self, options: DerivativeOptions, seed: int = 0) -> None:
        super().__init__(options, seed)
        self._directed: list[str] | None = None

    def parameter_scores(self, model: nn.Module, batch: Batch | None) -> dict[str, Tensor]:
        """Score every weight and bias of parameter layers on one batch."""
        assert batch is not None
        return times_values(model, curvature_adjoints(model, batch.inputs, batch.loss_of, self._names(model, batch)))

    def channel_scores(
        self, model: nn.Module, channels: Collection[Channels], batch: Batch | None
    ) -> Mapping[Channels, Tensor]:
        """Add up the scores of each channel of some layers, without gradients of weights where possible."""
        assert batch is not None
        return differentiated_sums(model, channels, batch, self._names(model, batch), channel_curvature)

    def _names(self, model: nn.Module, batch: Batch) -> list[str]:
        """Return the names of the parameters that carry a direction, found once."""
        if self._directed is None:
            self._directed = directed_parameters(model, batch.inputs[:2])
        return self._directed


CRITERION = Oba

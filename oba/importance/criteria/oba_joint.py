r"""Second-order change of the loss with all interactions, ``oba-joint``: what is already gone changes what may go.

.. math:: \Delta L(S) \approx -\sum_{c \in S} g_c + \frac12 \sum_{c, d \in S} H_{cd}

with g and H the gradient and Hessian of the loss with respect to the structures' masks. Selection removes greedily by
the marginal :math:`-g_c + \frac12 H_{cc} + \sum_{d \in S} H_{cd}`; alone, a structure scores as in ``oba-diag``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import model_validator
from torch import nn

from oba.importance.batches import Batch
from oba.importance.criterion import BatchScores, Target
from oba.importance.quadratic import Quadratic, QuadraticOptions, require_frozen_norms
from oba.importance.targets import places_of_targets, split


class ObaJointOptions(QuadraticOptions):
    """Options of ``oba-joint``."""

    hessian: Literal["auto", "exact", "gauss-newton"] = "auto"
    """How the Hessian is found: by exact rows, or by Gauss-Newton, which holds for cross-entropy and `norm: eval`.
    `auto`: Gauss-Newton where it holds."""

    @model_validator(mode="after")
    def _holds(self) -> Self:
        require_frozen_norms(self.hessian, self.norm)
        return self


class ObaJoint(Quadratic[ObaJointOptions]):
    """``-g + ½ diag H`` of structures, and H. ``auto`` takes exact rows where Gauss–Newton does not hold."""

    def batch_scores(self, model: nn.Module, targets: Sequence[Target], batch: Batch | None) -> BatchScores:
        """Score structures, and say how they interact."""
        assert batch is not None
        places = places_of_targets(model, targets)
        source = self._source(model, places, batch, self.options.hessian, self.options.samples)
        matrix = source.matrix()
        return BatchScores(split(matrix.diagonal() / 2 - source.gradient, targets), interactions=matrix)


CRITERION = ObaJoint

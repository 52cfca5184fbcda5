r"""Second-order change of the loss when one structure goes alone, ``oba-diag``.

.. math:: s_c = -\frac{\partial L}{\partial m_c} + \frac12 \frac{\partial^2 L}{\partial m_c^2}

with the mask m_c of structure c (1 keeps, 0 removes): the Taylor expansion of ``L(m_c = 0) - L(m_c = 1)``, in nats. The
paper's sum over all j (``oba-exact``) asks another question, what is c's share if all structures go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import model_validator
from torch import nn

from oba.importance.batches import Batch
from oba.importance.criterion import BatchScores, Target
from oba.importance.hessians import GaussNewton
from oba.importance.quadratic import Quadratic, QuadraticOptions, require_frozen_norms
from oba.importance.targets import places_of_targets, split


class ObaDiagOptions(QuadraticOptions):
    """Options of ``oba-diag``."""

    hessian: Literal["auto", "exact", "gauss-newton", "probes"] = "auto"
    """How the Hessian's diagonal is found: by exact rows, by Gauss-Newton (which holds for cross-entropy and
    `norm: eval`), or by random probes. `auto`: Gauss-Newton where it holds."""

    @model_validator(mode="after")
    def _holds(self) -> Self:
        require_frozen_norms(self.hessian, self.norm)
        return self


class ObaDiag(Quadratic[ObaDiagOptions]):
    """``-g_c + ½ H_cc`` of structures.

    ``auto`` takes Gauss–Newton where it holds (cross-entropy, frozen statistics of batch norms, examples that every
    layer keeps apart), unless exact rows are as cheap; otherwise probes for more structures than :attr:`FEW`, and exact
    rows for fewer.
    """

    FEW = 64
    """Number of structures up to which exact rows are taken where Gauss–Newton does not hold."""

    def batch_scores(self, model: nn.Module, targets: Sequence[Target], batch: Batch | None) -> BatchScores:
        """Score structures, with the variance of what is drawn at random."""
        assert batch is not None
        hessian, samples = self.options.hessian, self.options.samples
        source = self._source(model, places_of_targets(model, targets), batch, hessian, samples)
        variance = None
        if isinstance(source, GaussNewton):
            diagonal, variance = source.diagonal(), source.variance()
        elif hessian == "probes" or (hessian == "auto" and len(source.gradient) > self.FEW):
            diagonal, variance = source.probed_diagonal(samples, batch.generator(self.seed))
        else:
            diagonal = source.matrix().diagonal()
        of_scores = None if variance is None else split(variance / 4, targets)
        return BatchScores(split(diagonal / 2 - source.gradient, targets), variance=of_scores)


CRITERION = ObaDiag

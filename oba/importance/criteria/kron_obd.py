r"""Optimal Brain Damage with Kronecker factors ``kron-obd``: the weights of a filter depend on each other.

.. math:: s_i = \tfrac12\, G_{ii}\, \theta_i^T A\, \theta_i, \qquad
          s_B = \tfrac12\, \mathrm{tr}\, G_{BB} \Theta_B A \Theta_B^T

in nats, of a filter i (its bias included), and of several filters B of a layer that go together: the quadratic form
of :math:`F \approx G \otimes A` (:mod:`oba.curvature.kronecker`) on those filters.

Wang et al. (EigenDamage), ICML 2019, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from oba.curvature.kronecker import filter_blocks, output_moments
from oba.curvature.passes import Loss
from oba.importance.filter_fisher import FilterOptions, KroneckerCriterion, Prices


class KronObd(KroneckerCriterion[FilterOptions]):
    """The filters go, and the others stay as they are."""

    def _prices(self, model: nn.Module, batches: Sequence[tuple[Tensor, Loss]], layers: Sequence[str]) -> Prices:
        for name, moments in output_moments(model, batches, layers):
            pairs = moments.gradients * moments.outputs / 2
            yield name, lambda filters, pairs=pairs: filter_blocks(pairs, filters).sum((1, 2))


CRITERION = KronObd

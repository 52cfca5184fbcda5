r"""Optimal Brain Surgeon with Kronecker factors ``kron-obs``: the layer's other filters make up for what goes.

.. math:: s_i = \tfrac12\, \frac{\theta_i^T A\, \theta_i}{[G^{-1}]_{ii}}, \qquad
          s_B = \tfrac12\, \mathrm{tr}\, \big([G^{-1}]_{BB}\big)^{-1} \Theta_B A \Theta_B^T

in nats, of a filter i (its bias included), and of several filters B of a layer that go together: the minimum of
:math:`\tfrac12 \delta^T (G \otimes A)\, \delta` where the filters go to zero and all other filters of the layer move
freely. The update ``kron-obs`` makes that move. G is damped.

Wang et al. (EigenDamage), ICML 2019, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from oba.curvature.kronecker import damped_inverse, filter_blocks, output_moments
from oba.curvature.passes import Loss
from oba.importance.filter_fisher import DampedFilterOptions, KroneckerCriterion, Prices


class KronObs(KroneckerCriterion[DampedFilterOptions]):
    """The filters go, and the others take the best step."""

    def _prices(self, model: nn.Module, batches: Sequence[tuple[Tensor, Loss]], layers: Sequence[str]) -> Prices:
        for name, moments in output_moments(model, batches, layers):
            yield name, partial(_price, damped_inverse(moments.gradients, self.options.damping), moments.outputs)


def _price(inverse: Tensor, outputs: Tensor, filters: Tensor) -> Tensor:
    return (torch.linalg.inv(filter_blocks(inverse, filters)) * filter_blocks(outputs, filters)).sum((1, 2)) / 2


CRITERION = KronObs

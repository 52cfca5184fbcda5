r"""Optimal Brain Surgeon with Kronecker factors ``kron-obs``: the filters that stay make up for those that went.

In a layer whose Fisher information is :math:`F \approx G \otimes A` (:mod:`oba.curvature.kronecker`, G damped), the
best step of the kept filters K when the removed filters R go to zero all at once,

.. math:: \min_{\delta_K}\; \tfrac12 \mathrm{tr}\, G\, \delta A\, \delta^T, \quad \delta_R = -\Theta_R
          \qquad\Rightarrow\qquad \delta_K = (G_{KK})^{-1} G_{KR}\, \Theta_R,

does not depend on A. For one removed filter i it is the paper's :math:`-(G^{-1} e_i / [G^{-1}]_{ii})\, \theta_i^T`.
The step is the same whichever criterion chose the filters.

Norms are recalibrated at the end. Wang et al. (EigenDamage), ICML 2019, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from oba.curvature.kronecker import filters, output_moments
from oba.curvature.refit import damped
from oba.pruning.cut import Cut, Images
from oba.pruning.update._filters import FilterCut, FilterUpdate


class KronObs(FilterUpdate):
    """Takes the best step for all removed filters together."""

    def _steps(self, cut: Cut, images: Images, layers: Sequence[FilterCut]) -> Iterator[Tensor]:
        moments = output_moments(cut.before, self._batches(images), [of.name for of in layers])
        for of, (_, found) in zip(layers, moments, strict=True):
            rows = damped(found.gradients, self.options.damping)[0, of.kept]
            factor = torch.linalg.cholesky(rows[:, of.kept])
            yield torch.cholesky_solve(rows[:, of.gone] @ filters(of.layer)[0, of.gone], factor)


UPDATE = KronObs

r"""Optimal Brain Surgeon of filters ``c-obs``: for each weight that went, the step as if it had gone alone.

With :math:`F \approx G \otimes A` (:mod:`oba.curvature.kronecker`, both damped), the steps of a layer's kept filters K
for all weights (i, k) of the removed filters R add up to

.. math:: \delta_K = -\sum_{i \in R} \sum_k \frac{\theta_{ik}}{[G^{-1}]_{ii} [A^{-1}]_{kk}}\,
          [G^{-1}]_{Ki}\, [A^{-1}]_{k:}.

The steps do not know of each other, so this is not the minimum for all of them; the update ``kron-obs`` is, of the same
F.

Norms are recalibrated at the end. Hassibi and Stork, 1993; Wang et al. (EigenDamage), ICML 2019, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from oba.curvature.grams import input_moments
from oba.curvature.kronecker import damped_inverse, filters, input_factor, output_moments
from oba.pruning.cut import Cut, Images, Inputs
from oba.pruning.update._filters import FilterCut, FilterUpdate


class CObs(FilterUpdate):
    """Adds up the steps of single weights."""

    def _steps(self, cut: Cut, images: Images, layers: Sequence[FilterCut]) -> Iterator[Tensor]:
        names = [of.name for of in layers]
        outs = output_moments(cut.before, self._batches(images), names)
        ins = input_moments(cut.before, Inputs(images), names)
        for of, (_, outputs), (_, inputs) in zip(layers, outs, ins, strict=True):
            by_outputs = damped_inverse(outputs.gradients, self.options.damping)[0]
            by_inputs = damped_inverse(input_factor(of.layer, inputs), self.options.damping)[0]
            alone = filters(of.layer)[0, of.gone] / by_inputs.diagonal() / by_outputs.diagonal()[of.gone, None]
            yield -by_outputs[of.kept][:, of.gone] @ alone @ by_inputs


UPDATE = CObs

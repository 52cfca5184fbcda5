r"""Optimal Brain Surgeon of filters ``c-obs``: each weight alone, all others of the layer making up for it.

.. math:: s_{ik} = \tfrac12\, \frac{\theta_{ik}^2}{[F^{-1}]_{ik,ik}}
                 = \tfrac12\, \frac{\theta_{ik}^2}{[G^{-1}]_{ii}\, [A^{-1}]_{kk}}

of weight k of filter i, in nats, with :math:`F \approx G \otimes A` (:mod:`oba.curvature.kronecker`), both damped; a
filter's score is the sum over its weights and its bias, although each of them counts on the others. The update
``c-obs`` is the sum of the weights' steps.

Hassibi and Stork, 1993; with Kronecker factors Zeng and Urtasun, 2019; for filters Wang et al. (EigenDamage), ICML
2019, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from oba.curvature.grams import input_moments
from oba.curvature.kronecker import damped_inverse, filters, input_factor, output_moments
from oba.curvature.passes import Loss
from oba.curvature.unfold import matrix_layer
from oba.importance.filter_fisher import DampedFilterOptions, KroneckerCriterion, Prices


class CObs(KroneckerCriterion[DampedFilterOptions]):
    """The weights of a filter as if each went alone."""

    def _prices(self, model: nn.Module, batches: Sequence[tuple[Tensor, Loss]], layers: Sequence[str]) -> Prices:
        ins = input_moments(model, [inputs for inputs, _ in batches], layers)
        outs = output_moments(model, batches, layers)
        for (name, inputs), (_, outputs) in zip(ins, outs, strict=True):
            layer = matrix_layer(model, name)
            of_inputs, of_outputs = (
                damped_inverse(factor, self.options.damping).diagonal(dim1=-2, dim2=-1)
                for factor in (input_factor(layer, inputs), outputs.gradients)
            )
            prices = ((filters(layer).square() / of_inputs[:, None]).sum(-1) / of_outputs).flatten() / 2
            yield name, lambda indices, prices=prices: prices[indices].sum(1)


CRITERION = CObs

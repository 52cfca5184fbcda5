r"""The Erdős–Rényi kernel ``erk`` (Evci et al., ICML 2020): small layers stay denser.

.. math:: d_l = \min\Big(1,\; \varepsilon\, \frac{o_l + i_l + h_l + w_l}{o_l\, i_l\, h_l\, w_l}\Big)

is the fraction that a layer with o outputs, i inputs (of a group) and a kernel of h × w keeps, with the one ε that
meets the level: the number of weights left is proportional to the sum of the weight's dimensions.
"""

from __future__ import annotations

from torch import Tensor

from oba.options import Options
from oba.pruning.weights.apportion import apportion
from oba.pruning.weights.problem import WeightAllocation, WeightProblem, keep_by_layer


class Erk(WeightAllocation[Options]):
    """Fractions that depend on shapes alone."""

    def select(self, problem: WeightProblem) -> dict[str, Tensor]:
        """Keep the best weights of every layer."""
        left = [int(mask.sum()) for mask in problem.masks.values()]
        return keep_by_layer(problem, apportion(problem.budget, [sum(m.shape) for m in problem.masks.values()], left))


ALLOCATION = Erk

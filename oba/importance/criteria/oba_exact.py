r"""Exact Hessian-vector element ``oba-exact`` (Sun et al., ICLR 2025: the second Taylor term; their "FastOBA").

.. math:: s_i = \theta_i (H\theta)_i \quad\text{(order 2)}, \qquad
          s_i = \theta_i \sum_{i_2 \dots i_k} \frac{\partial^k L}{\partial\theta_i \partial\theta_{i_2} \cdots
          \partial\theta_{i_k}}\, \theta_{i_2} \cdots \theta_{i_k} \quad\text{(order k)}

Order 1 is ``taylor``. The Taylor series has a factor 1/k!, which is left out: it does not change a ranking.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from oba.importance.criterion import DerivativeOptions
from oba.importance.expansion import Expansion


class ObaExactOptions(DerivativeOptions):
    """Options of ``oba-exact``."""

    order: Annotated[int, Field(ge=1)] = 2
    """Order k: 2 is the Hessian-vector product, 1 is ``taylor``; above 2 the cost doubles with each."""


class ObaExact(Expansion[ObaExactOptions]):
    """``θ_i (Hθ)_i`` on all trainable parameters, the direction being all of them, or a higher order."""

    def __init__(self, options: ObaExactOptions, seed: int = 0) -> None:
        super().__init__(options, seed)
        self.order = options.order


CRITERION = ObaExact

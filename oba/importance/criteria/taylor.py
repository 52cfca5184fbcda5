r"""First-order Taylor score ``taylor`` (Molchanov et al., ICLR 2017; CVPR 2019).

.. math:: s_i = \theta_i g_i, \qquad g = \nabla L
"""

from __future__ import annotations

from oba.importance.criterion import DerivativeOptions
from oba.importance.expansion import Expansion


class Taylor(Expansion[DerivativeOptions]):
    """``θ_i g_i`` on all trainable parameters: ``oba-exact`` of order 1."""

    order = 1


CRITERION = Taylor

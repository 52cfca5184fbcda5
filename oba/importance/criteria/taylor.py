r"""First-order Taylor score ``taylor`` (Molchanov et al., ICLR 2017; CVPR 2019).

.. math:: s_i = \theta_i g_i, \qquad g = \nabla L
"""

from __future__ import annotations

from oba.importance.criteria.oba_exact import ObaExact


class Taylor(ObaExact):
    """``θ_i g_i`` on all trainable parameters: ``oba-exact`` of order 1."""

    @property
    def order(self) -> int:
        """The first order, whatever the options say."""
        return 1


CRITERION = Taylor

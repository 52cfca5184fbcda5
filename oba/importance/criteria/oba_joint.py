r"""Second-order change of the loss with all interactions, ``oba-joint``: what is already gone changes what may go.

.. math:: \Delta L(S) \approx -\sum_{c \in S} g_c + \frac12 \sum_{c, d \in S} H_{cd}

with g and H the gradient and Hessian of the loss with respect to the structures' masks. Selection removes greedily by
the marginal :math:`-g_c + \frac12 H_{cc} + \sum_{d \in S} H_{cd}`; alone, a structure scores as in ``oba-diag``.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from oba.errors import ConfigError
from oba.importance.batches import Batch
from oba.importance.criteria.oba_diag import ObaDiag
from oba.importance.criterion import BatchModel, Options, Target
from oba.importance.targets import places_of_targets, split


class ObaJoint(ObaDiag):
    """``-g + ½ diag H`` of structures, and H. ``auto`` takes exact rows where Gauss–Newton does not hold."""

    def __init__(self, options: Options) -> None:
        """Take the settings.

        Args:
            options: Settings of all criteria; ``hessian``, ``samples`` and ``seed`` are used.

        Raises:
            ConfigError: If probes are asked for.
        """
        if options.hessian == "probes":
            raise ConfigError(
                "hessian: 'probes' estimates the diagonal alone; allowed for oba-joint: auto, exact, gauss-newton"
            )
        super().__init__(options)

    def structure_model(self, model: nn.Module, targets: Sequence[Target], batch: Batch | None) -> BatchModel:
        """Score structures, and say how they interact.

        Args:
            model: The model, in the mode for scoring.
            targets: The groups.
            batch: The examples.

        Returns:
            One row for each group, and H.
        """
        assert batch is not None
        source = self._source(model, places_of_targets(model, targets), batch)
        matrix = source.matrix()
        return BatchModel(split(matrix.diagonal() / 2 - source.gradient, targets), interactions=matrix)


CRITERION = ObaJoint

r"""Second-order change of the loss when one structure goes alone, ``oba-diag``.

.. math:: s_c = -\frac{\partial L}{\partial m_c} + \frac12 \frac{\partial^2 L}{\partial m_c^2}

with the mask m_c of structure c (1 keeps, 0 removes): the Taylor expansion of ``L(m_c = 0) - L(m_c = 1)``, in nats. The
paper's sum over all j (``oba-exact``) asks another question, what is c's share if all structures go.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from oba.importance.batches import Batch, plain_cross_entropy
from oba.importance.criterion import BatchModel, Criterion, Options, Target
from oba.importance.examples import MixedExamplesError
from oba.importance.hessians import GaussNewton, MaskHessian, coupling_norm
from oba.importance.masks import Places
from oba.importance.targets import places_of_targets, split


class ObaDiag(Criterion):
    """``-g_c + ½ H_cc`` of structures.

    ``auto`` takes Gauss–Newton where it holds (cross-entropy, frozen statistics of batch norms, examples that every
    layer keeps apart), unless exact rows are as cheap; otherwise probes for more structures than :attr:`FEW`, and exact
    rows for fewer.
    """

    in_nats = True
    FEW = 64
    """Number of structures up to which exact rows are taken where Gauss–Newton does not hold."""

    def __init__(self, options: Options) -> None:
        """Take the settings.

        Args:
            options: Settings of all criteria; ``hessian``, ``samples`` and ``seed`` are used.
        """
        super().__init__(options)
        self._generator = torch.Generator().manual_seed(options.seed)
        self._mixed = False

    def structure_scores(self, model: nn.Module, targets: Sequence[Target], batch: Batch | None) -> dict[str, Tensor]:
        """Score structures.

        Args:
            model: The model, in the mode for scoring.
            targets: The groups.
            batch: The examples.

        Returns:
            For each group's name one row of signed scores.
        """
        return dict(self.structure_model(model, targets, batch).rows)

    def structure_model(self, model: nn.Module, targets: Sequence[Target], batch: Batch | None) -> BatchModel:
        """Score structures, with the variance of what is drawn at random.

        Args:
            model: The model, in the mode for scoring.
            targets: The groups.
            batch: The examples.

        Returns:
            One row for each group.
        """
        assert batch is not None
        source = self._source(model, places_of_targets(model, targets), batch)
        variance = None
        if isinstance(source, GaussNewton):
            diagonal, variance = source.diagonal(), source.variance()
        elif self.options.hessian == "probes" or (self.options.hessian == "auto" and len(source.gradient) > self.FEW):
            diagonal, variance = source.probed_diagonal(self.options.samples, self._generator)
        else:
            diagonal = source.matrix().diagonal()
        of_scores = None if variance is None else split(variance / 4, targets)
        return BatchModel(split(diagonal / 2 - source.gradient, targets), variance=of_scores)

    def _source(self, model: nn.Module, places: Places, batch: Batch) -> GaussNewton | MaskHessian:
        """Differentiate in the way that is asked for; ``auto`` takes Gauss–Newton where it holds and is cheaper."""
        few = sum(places.sizes.values()) <= self.options.samples
        holds = plain_cross_entropy(batch.loss) and not coupling_norm(model) and not self._mixed
        if self.options.hessian == "gauss-newton" or (self.options.hessian == "auto" and holds and not few):
            try:
                return GaussNewton(model, places, batch, self.options.samples, self._generator)
            except MixedExamplesError:
                if self.options.hessian != "auto":
                    raise
                self._mixed = True
        return MaskHessian(model, places, batch)


CRITERION = ObaDiag

r"""No criterion at all ``random``: the baseline that any other must beat.

.. math:: s_i \sim U[0, 1)

drawn from the seed that is given, never from the global random state.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from oba.importance.batches import Batch
from oba.importance.criterion import BatchScores, Criterion, Target
from oba.options import Options


class Random(Criterion[Options]):
    """Independent uniform scores of parameters, or of structures, whatever the size of a structure; needs no data."""

    needs_data = False

    def parameter_scores(self, model: nn.Module, batch: Batch | None) -> dict[str, Tensor]:
        """Draw a score for every parameter element."""
        generator = torch.Generator().manual_seed(self.seed)
        return {
            name: torch.rand(parameter.shape, generator=generator, dtype=torch.float64).to(parameter.device)
            for name, parameter in model.named_parameters()
        }

    def batch_scores(self, model: nn.Module, targets: Sequence[Target], batch: Batch | None) -> BatchScores:
        """Draw a score for every structure."""
        generator = torch.Generator().manual_seed(self.seed)
        return BatchScores({
            target.group.name: torch.rand((1, len(target.group)), generator=generator, dtype=torch.float64)
            for target in targets
        })


CRITERION = Random

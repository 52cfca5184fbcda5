r"""Scale of the batch norm behind a channel ``bn-scale`` (Network Slimming, Liu et al., ICCV 2017).

.. math:: s_c = |\gamma_c|
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from oba.errors import ScoreError
from oba.importance.batches import Batch
from oba.importance.criterion import BatchScores, Criterion, SliceOptions, Target
from oba.structures import FEATURE


class BnScale(Criterion[SliceOptions]):
    """Absolute scales of the batch norms that normalise a structure; needs no data, and scores no parameters."""

    needs_data = False

    def batch_scores(self, model: nn.Module, targets: Sequence[Target], batch: Batch | None) -> BatchScores:
        """Score structures.

        Args:
            model: The model.
            targets: The groups.
            batch: Not used.

        Returns:
            For each group's name one row for each of its batch norms.

        Raises:
            ScoreError: If a group has no batch norm with a scale.
        """
        modules = dict(model.named_modules())
        rows: dict[str, Tensor] = {}
        for target in targets:
            found = [
                norm.weight.detach().abs()[torch.tensor(s.indices, device=norm.weight.device)].sum(1)
                for s in target.group.on_axis(FEATURE)
                if isinstance(norm := modules.get(s.layer), nn.modules.batchnorm._BatchNorm) and norm.affine
            ]
            if not found:
                raise ScoreError(f"group {target.group.name!r}: criterion 'bn-scale' needs a batch norm with a scale")
            rows[target.group.name] = torch.stack(found)
        return BatchScores(rows)


CRITERION = BnScale

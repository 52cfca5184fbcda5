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
from oba.structures import FEATURE, StructureGroup


class BnScale(Criterion[SliceOptions]):
    """Absolute scales of the batch norms that normalise a structure; needs no data, and scores no parameters."""

    needs_data = False

    def require(self, model: nn.Module, groups: Sequence[StructureGroup]) -> None:
        """Refuse groups without a batch norm.

        Args:
            model: The model.
            groups: The groups.

        Raises:
            ScoreError: If a group has no batch norm with a scale.
        """
        for group in groups:
            if not _scales(model, group):
                raise ScoreError(f"group {group.name!r}: criterion 'bn-scale' needs a batch norm with a scale")

    def batch_scores(self, model: nn.Module, targets: Sequence[Target], batch: Batch | None) -> BatchScores:
        """Score structures."""
        groups = [target.group for target in targets]
        self.require(model, groups)
        return BatchScores({group.name: torch.stack(_scales(model, group)) for group in groups})


def _scales(model: nn.Module, group: StructureGroup) -> list[Tensor]:
    """Return the absolute scales of a group's structures in each of its batch norms."""
    modules = dict(model.named_modules())
    return [
        norm.weight.detach().abs()[torch.tensor(s.indices, device=norm.weight.device)].sum(1)
        for s in group.on_axis(FEATURE)
        if isinstance(norm := modules.get(s.layer), nn.modules.batchnorm._BatchNorm) and norm.affine
    ]


CRITERION = BnScale

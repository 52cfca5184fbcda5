r"""Distance to the geometric median ``fpgm`` (He et al., CVPR 2019, eq. 5).

.. math:: s_c = \sum_j \lVert F_c - F_j \rVert_2

over the filters F of one layer: a filter close to all others can be replaced by them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from oba.curvature import parameter_layers
from oba.importance.batches import Batch
from oba.importance.criterion import Criterion, SliceOptions
from oba.importance.slices import Channels
from oba.structures import OUT


class Fpgm(Criterion[SliceOptions]):
    """Summed distances of filters (rows of a weight) within their layer; needs no data, and scores no parameters."""

    needs_data = False

    def channel_scores(
        self, model: nn.Module, channels: Collection[Channels], batch: Batch | None
    ) -> Mapping[Channels, Tensor]:
        """Score output channels."""
        layers = parameter_layers(model)
        filters = {(n, axis): layers[n].weight.detach().double().flatten(1) for n, axis in channels if axis == OUT}
        exact = "donot_use_mm_for_euclid_dist"
        return {key: torch.cdist(f, f, compute_mode=exact).sum(1) for key, f in filters.items()}


CRITERION = Fpgm

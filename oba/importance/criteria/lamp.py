r"""Layer-adaptive magnitude ``lamp`` (Lee et al., ICLR 2021, eq. 4).

.. math:: s_u = \frac{w_u^2}{\sum_{v:\, |w_v| \ge |w_u|} w_v^2}

over the weights of one Conv, Linear or attention layer: what share of what would be left in the layer the weight is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oba.curvature import layer_parameters
from oba.importance.batches import Batch
from oba.importance.criterion import Criterion, SliceOptions


class Lamp(Criterion[SliceOptions]):
    """LAMP scores of the weights of Conv, Linear and attention layers; biases and norms have none. Needs no data."""

    needs_data = False

    def parameter_scores(self, model: nn.Module, batch: Batch | None) -> dict[str, Tensor]:
        """Score every weight of these layers."""
        weights = ((name, model.get_parameter(name).detach()) for name in layer_parameters(model))
        return {name: _lamp(weight) for name, weight in weights if weight.dim() > 1}


def _lamp(weight: Tensor) -> Tensor:
    squares = weight.double().square().flatten()
    ordered, order = squares.sort()
    # Equal weights share the sum that starts at the first of them.
    left = ordered.flip(0).cumsum(0).flip(0)[torch.searchsorted(ordered, ordered)]
    scores = torch.zeros_like(squares).index_copy(0, order, torch.where(left > 0, ordered / left, 0.0))
    return scores.view_as(weight).to(weight.dtype)


CRITERION = Lamp

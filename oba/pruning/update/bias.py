r"""Mean contributions ``bias``: what the removed inputs gave a layer on average goes into its bias.

.. math:: b \leftarrow b + W_{:R}\, E[x_R]

with x_R the removed inputs, over all positions of the calibration images in the net before the cut: the layer's mean
outputs stay. Where a layer has no bias, the batch norm behind it takes the mean, because norms are recalibrated at the
end. A layer with neither is left as it is, and named in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from oba import ranks
from oba.curvature.unfold import MatrixLayer
from oba.importance.masks import channel_dimension
from oba.modes import evaluating
from oba.options import Options
from oba.pruning.cut import Cut, Images, Inputs, Update
from oba.pruning.statistics import recalibrate_norms, tracking_norms
from oba.structures import IN, OUT

_log = logging.getLogger(__name__)


class Bias(Update[Options]):
    """Moves the mean of what is gone into biases, then recalibrates the norms."""

    def adjust(self, cut: Cut, images: Images) -> None:
        """Change the biases of the layers that lost inputs.

        Args:
            cut: What was removed.
            images: The calibration images.
        """
        consumers = cut.consumers()
        means = {name: _Mean(layer, cut.kept(name, IN)) for name, layer in consumers.items() if layer.bias is not None}
        with torch.no_grad(), evaluating(cut.before), ExitStack() as hooks:
            for name, mean in means.items():
                hooks.callback(consumers[name].register_forward_hook(mean.add, prepend=True).remove)
            normalised = _normalised(cut.before, consumers.keys() - means.keys(), hooks)
            for inputs in Inputs(images):
                cut.before(inputs)
            # A rank may have had no images; the first always has.
            normalised = ranks.broadcast(normalised)
            for name, mean in means.items():
                bias = cut.after.get_submodule(name).bias
                assert isinstance(bias, Tensor)
                bias += mean.value()[cut.kept(name, OUT)].to(bias)
        for name in consumers:
            if name not in means and name not in normalised:
                _log.warning("update 'bias': layer %r has no bias and no batch norm behind it; it stays as it is", name)
        recalibrate_norms(cut.after, images)


class _Mean:
    """The mean, over images and positions, of what a layer's removed inputs add to its outputs."""

    def __init__(self, layer: MatrixLayer, kept: Tensor) -> None:
        self._dimension = channel_dimension(layer)
        self._kept = layer.weight.new_zeros(layer.weight.shape[1]).index_fill(0, kept, 1)
        self._sum = layer.weight.new_zeros(len(layer.weight), dtype=torch.float64)
        self._rows = 0

    def add(self, layer: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        """Add one call of the layer."""
        x = args[0]
        kept = self._kept.view(-1, *[1] * (x.dim() - 1 - self._dimension % x.dim()))
        # forward(), which runs no hooks.
        difference = y - layer.forward(x * kept)
        rows = difference.movedim(self._dimension, -1).flatten(0, -2)
        self._sum += rows.sum(0, dtype=torch.float64)
        self._rows += len(rows)

    def value(self) -> Tensor:
        """Return the mean of each output over the images of all ranks, float64."""
        ranks.sum_over_ranks([self._sum])
        return self._sum / max(ranks.total(self._rows), 1)


def _normalised(model: nn.Module, layers: Iterable[str], hooks: ExitStack) -> set[str]:
    """Return those of the layers whose outputs go straight into a batch norm, a set that runs of the model fill."""
    outputs: dict[str, Any] = {}
    found: set[str] = set()
    for name in layers:
        layer = model.get_submodule(name)
        hooks.callback(layer.register_forward_hook(lambda _l, _x, y, name=name: outputs.update({name: y})).remove)

    def look(_norm: nn.Module, args: tuple[Any, ...]) -> None:
        found.update(name for name, y in outputs.items() if y is args[0])

    for norm in tracking_norms(model):
        hooks.callback(norm.register_forward_pre_hook(look).remove)
    return found


UPDATE = Bias

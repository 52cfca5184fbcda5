r"""Least squares ``least-squares``: every consumer makes its old outputs from the inputs that it still has.

A layer that lost inputs gets the weights and the bias (where it has one) that solve

.. math:: \min_{W, b}\; E\lVert y - W x - b\rVert^2 + \lambda\,\mathrm{mean}(\mathrm{diag}\,E[x x^T])\,
          \lVert W - W_0\rVert^2

with y its outputs in the net before the cut, x its remaining inputs and W₀ its remaining weights, over all positions of
the calibration images: the loss is never above that of doing nothing. Luo et al. (ThiNet), ICCV 2017; He et al., ICCV
2017; OBC: Frantar and Alistarh, NeurIPS 2022.

Norms are recalibrated at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Annotated, Literal

import torch
from pydantic import Field

from oba.curvature.grams import input_moments, paired_moments
from oba.curvature.moments import InputMoments, TargetMoments, own_targets
from oba.curvature.refit import refit
from oba.curvature.unfold import MatrixLayer, input_columns, matrix_layer, weight_matrix
from oba.modes import evaluating
from oba.options import Options
from oba.pruning.cut import Cut, Images, Inputs, Update
from oba.pruning.statistics import recalibrate_norms
from oba.structures import IN, OUT

_Moments = Iterator[tuple[str, InputMoments, TargetMoments]]


class LeastSquaresOptions(Options):
    """Options of ``least-squares``."""

    damping: Annotated[float, Field(ge=0)] = 0.01
    """λ: how strongly weights are held where they are, as a fraction of the mean square of an input."""
    inputs: Literal["after", "before"] = "after"
    """The inputs x of a layer: those of the pruned net, layers before it being refitted already (`after`: one pass of
    both nets for each layer), or what is left of those before the cut (`before`: as few passes as memory allows)."""


class LeastSquares(Update[LeastSquaresOptions]):
    """Refits the Conv and Linear layers that lost inputs, then recalibrates the norms."""

    def adjust(self, cut: Cut, images: Images) -> None:
        """Refit one layer after another, in the order in which they run.

        With ``after`` an update that was killed goes on after the last layer that was saved. With ``before`` a grouped
        convolution stays as it is: the inputs of its groups did not change.

        Args:
            cut: What was removed.
            images: The calibration images.

        Raises:
            ModelError: If a layer does not compute ``W X + b`` of its own weight and padding.
            ScoreError: If inputs are not finite.
        """
        source = _inputs_after if self.options.inputs == "after" else _inputs_before
        with torch.no_grad(), evaluating(cut.before), evaluating(cut.after):
            for name, inputs, targets in source(cut, images):
                layer = matrix_layer(cut.after, name)
                weight, bias = refit(inputs, targets, weight_matrix(layer), _bias(layer), self.options.damping)
                layer.weight.copy_(weight.reshape(layer.weight.shape))
                if layer.bias is not None and bias is not None:
                    layer.bias.copy_(bias.flatten())
                if self.options.inputs == "after":
                    cut.adjusted.add(name)
        recalibrate_norms(cut.after, images)


def _inputs_after(cut: Cut, images: Images) -> _Moments:
    """Yield moments of the pruned net's inputs as it is when its turn comes, with the outputs before the cut."""
    for name in [name for name in _running_order(cut, images) if name not in cut.adjusted.names]:
        yield from paired_moments(cut.before, cut.after, Inputs(images), [name], outputs={name: cut.kept(name, OUT)})


def _inputs_before(cut: Cut, images: Images) -> _Moments:
    """Yield moments of what is left of the inputs before the cut, with the outputs that all of them made."""
    for name, moments in input_moments(cut.before, Inputs(images), list(cut.consumers())):
        layer, rows = matrix_layer(cut.before, name), cut.kept(name, OUT)
        bias = _bias(layer)
        targets = own_targets(moments, weight_matrix(layer)[:, rows], None if bias is None else bias[:, rows])
        columns = input_columns(layer, cut.kept(name, IN))
        yield name, moments.keep(columns), targets.keep(columns)


def _bias(layer: MatrixLayer) -> torch.Tensor | None:
    """Return a layer's bias beside its weight matrix, (groups, outputs of a group)."""
    return None if layer.bias is None else layer.bias.detach().double().reshape(weight_matrix(layer).shape[:2])


def _running_order(cut: Cut, images: Images) -> list[str]:
    """Return the layers that lost inputs, grouped convolutions among them, in the order in which they run."""
    order: dict[str, None] = {}
    with ExitStack() as hooks:
        for name in cut.consumers(grouped=True):
            layer = cut.before.get_submodule(name)
            hooks.callback(layer.register_forward_pre_hook(lambda *_, name=name: order.setdefault(name)).remove)
        inputs, _ = next(iter(images()))
        cut.before(inputs)
    return list(order)


UPDATE = LeastSquares

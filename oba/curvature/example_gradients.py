r"""Squares of the gradients of single examples, added up.

A weight W that acts on example n by inputs :math:`X_n`, unfolded into columns, and receives the gradients
:math:`\delta_n` at its outputs has the example's gradient :math:`g_n = \delta_n^T X_n`. So one forward pass, one
backward pass to the activations and, layer by layer, one product for each example are enough: about the cost of a
gradient. With the statistics of the batch an example acts on others, and :math:`g_n` is the derivative with respect to
the weight as example n uses it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from oba.curvature.checks import check_attached
from oba.curvature.frozen_norms import ConstantNorms
from oba.curvature.passes import Loss
from oba.curvature.running_modules import Watch
from oba.curvature.unfold import MatrixLayer, check_matrix, group_count, output_windows, windows
from oba.errors import ScoreError

_LIMIT = 2**26
"""Bytes of the unfolded inputs, and of the gradients of single examples, that are in memory at once."""


def matrix_weights(model: nn.Module) -> set[str]:
    """Return the names of the weights that :func:`squared_gradients` can see: those of Conv and Linear layers.

    Args:
        model: The network.

    Returns:
        Names as in ``named_parameters()``.
    """
    # The projection at the end of PyTorch's attention is a Linear that is never called.
    layers = [module for module in model.modules() if not isinstance(module, nn.MultiheadAttention)]
    owned = {id(child.weight) for layer in layers for child in layer.children() if isinstance(child, MatrixLayer)}
    return {name for name, parameter in model.named_parameters() if id(parameter) in owned}


def squared_gradients(model: nn.Module, inputs: Tensor, loss: Loss) -> dict[str, Tensor]:
    r"""Return the mean over examples of squared gradients of weights, :math:`E_n[(\partial L_n/\partial W)^2]`.

    Args:
        model: The network, in the mode in which it is to be differentiated.
        inputs: One batch, shape (N, ...).
        loss: Maps the model's outputs to the mean loss over the batch; each :math:`L_n` is N times its part.

    Returns:
        By name, in the shapes of the weights of all Conv and Linear layers that the batch ran through.

    Raises:
        ScoreError: If it cannot be told which rows of a layer's input belong to one example.
    """
    squares = _Squares(model, len(inputs))
    anchor = inputs.new_zeros(()).requires_grad_()
    with Watch(model) as watch:
        with watch.explain("the forward pass"), squares.watching(), ConstantNorms():
            outputs = model(inputs.clone() + anchor)
        value = loss(outputs)
        check_attached(value)
        with watch.explain("the backward pass"):
            torch.autograd.grad(value, anchor, allow_unused=True)
    return {name: total * len(inputs) for name, total in squares.totals.items()}


class _Squares:
    """The calls of a net's layers, and the sums of squares of those whose gradients have arrived."""

    def __init__(self, model: nn.Module, examples: int) -> None:
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._layers = {
            module: name
            for name, module in model.named_modules()
            if isinstance(module, MatrixLayer) and id(module.weight) in self._names
        }
        self._examples = examples
        self._calls: dict[str, int] = defaultdict(int)
        self._arrived: dict[str, list[tuple[MatrixLayer, Tensor, Tensor]]] = defaultdict(list)
        self.totals: dict[str, Tensor] = {}

    def watching(self) -> ExitStack:
        """Return a context in which the calls of layers are seen."""
        with ExitStack() as hooks:
            for layer in self._layers:
                hooks.callback(layer.register_forward_hook(self._see).remove)
            return hooks.pop_all()

    def _see(self, layer: Any, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        x, weight = arguments[0], self._names[id(layer.weight)]
        if len(x) != self._examples:
            raise ScoreError(
                f"layer {self._layers[layer]!r} takes {len(x)} rows for {self._examples} examples: it cannot be told "
                "which belong together; allowed: criteria that do not look at single examples"
            )
        check_matrix(self._layers[layer], layer, x, output)
        self._calls[weight] += 1
        output.register_hook(self._receive(layer, x.detach(), x._version))

    def _receive(self, layer: MatrixLayer, x: Tensor, version: int) -> Callable[[Tensor], None]:
        def receive(delta: Tensor) -> None:
            if x._version != version:
                raise ScoreError(f"the input of layer {self._layers[layer]!r} has been overwritten in place")
            weight = self._names[id(layer.weight)]
            self._arrived[weight].append((layer, x, delta))
            if len(self._arrived[weight]) == self._calls[weight]:
                self.totals[weight] = _sum_of_squares(self._arrived.pop(weight))

        return receive


def _sum_of_squares(calls: list[tuple[MatrixLayer, Tensor, Tensor]]) -> Tensor:
    """Add up the squares of the gradients that single examples have by all calls of one weight."""
    layer, x, delta = calls[0]
    if len(calls) == 1 and x.dim() == 2:
        return delta.square().mT @ x.square()
    weight = layer.weight
    elements = max(weight.numel(), *(windows(layer, x).numel() // len(x) for layer, x, _ in calls))
    total = torch.zeros_like(weight, requires_grad=False)
    chunk = max(1, _LIMIT // (elements * x.element_size()))
    for start in range(0, len(x), chunk):
        some = slice(start, start + chunk)
        gradients = [_gradients(layer, x[some], delta[some]) for layer, x, delta in calls]
        total += torch.stack(gradients).sum(0).square().sum(0)
    return total


def _gradients(layer: MatrixLayer, x: Tensor, delta: Tensor) -> Tensor:
    """Return the gradient of each example, shape (N, *weight.shape)."""
    inside, outside = windows(layer, x), output_windows(layer, delta, group_count(layer))
    last = outside.dim() - 2  # of the dimensions of positions
    products = outside.flatten(2, last).mT @ inside.flatten(2, last).flatten(3)
    return products.movedim(1, 0).reshape(len(x), *layer.weight.shape)

r"""Squares of single examples' gradients, summed over a batch: the diagonal of the Fisher information.

With the calls c of a weight, unfolded inputs a and derivatives g of the outputs, at positions t,

.. math:: \sum_n \Big(\frac{\partial L_n}{\partial W}\Big)^2
          = \sum_n \Big(\sum_c \sum_t g_{cnt} a_{cnt}^T\Big)^2, \qquad
          \sum_n \Big(\frac{\partial L_n}{\partial b}\Big)^2 = \sum_n \Big(\sum_c \sum_t g_{cnt}\Big)^2.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from oba.curvature.example_rows import knowing_rows, rows_each
from oba.curvature.grams import UNFOLD_BYTES
from oba.curvature.output_gradients import differentiate_outputs
from oba.curvature.passes import Loss
from oba.curvature.unfold import MatrixLayer, check_matrix, group_count, output_windows, rows, weight_matrix, windows


def squared_gradients(
    model: nn.Module, inputs: Tensor, loss: Loss, *, unfold_bytes: int = UNFOLD_BYTES
) -> dict[str, Tensor]:
    """Sum the squares of the examples' gradients, at the cost of one gradient of the batch and of unfolding it.

    Args:
        model: The model, in the mode for scoring, with norms that do not couple examples.
        inputs: One batch, shape (N, ...).
        loss: Maps the model's outputs to the sum of the examples' losses.
        unfold_bytes: Largest size of the unfolded inputs and gradients of one layer; a single example may exceed it.

    Returns:
        For the weights and biases of all Conv and Linear layers that the loss depends on, frozen or not, keyed like
        ``named_parameters()``: float64, in the parameter's shape.

    Raises:
        ModelError: If a layer does not compute ``W X + b`` of its own weight and padding.
        ScoreError: If it cannot be told which rows of a layer's input belong to one example, or a pass fails.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, MatrixLayer)}
    calls = knowing_rows(model, inputs, layers, lambda side_by_side: _calls(model, inputs, loss, layers, side_by_side))
    found = {}
    for name, parameter in model.named_parameters():
        if own := calls.get(id(parameter)):
            found[name] = _of_weight(own, unfold_bytes) if parameter is own[0].layer.weight else _of_bias(own)
    return found


def _calls(
    model: nn.Module, inputs: Tensor, loss: Loss, layers: Mapping[str, MatrixLayer], side_by_side: Collection[str]
) -> dict[int, list[_Call]]:
    """Run the model both ways; return the calls by the id of the weight or bias."""
    calls: dict[int, list[_Call]] = defaultdict(list)

    def called(name: str, x: Tensor, y: Tensor) -> Callable[[Tensor], None]:
        layer = layers[name]
        # Rows of a Linear layer may be any dimensions; images are what a convolution takes.
        each = rows_each(name, len(x), len(inputs), side_by_side if isinstance(layer, nn.Linear) else ())
        check_matrix(name, layer, x[:1], y[:1])
        # Nothing keeps a model from overwriting what only a frozen layer has seen.
        x = x.detach() if layer.weight.requires_grad else x.clone()

        def take(gradient: Tensor) -> None:
            call = _Call(layer, *(t if each == 1 else t.unflatten(0, (-1, each)) for t in (x, gradient)))
            calls[id(layer.weight)].append(call)
            if layer.bias is not None:
                calls[id(layer.bias)].append(call)

        return take

    differentiate_outputs(model, inputs, loss, layers, called)
    return calls


def matrix_weights(model: nn.Module) -> set[str]:
    """Return the names of the weights that :func:`squared_gradients` can see: those of Conv and Linear layers.

    Args:
        model: The network.

    Returns:
        Names as in ``named_parameters()``.
    """
    # The projection at the end of PyTorch's attention is a Linear that is never called.
    parents = [module for module in model.modules() if not isinstance(module, nn.MultiheadAttention)]
    owned = {id(child.weight) for parent in parents for child in parent.children() if isinstance(child, MatrixLayer)}
    return {name for name, parameter in model.named_parameters() if id(parameter) in owned}


@dataclass(frozen=True)
class _Call:
    """One call of a layer."""

    layer: MatrixLayer
    x: Tensor
    gradient: Tensor

    @property
    def per_position(self) -> tuple[Tensor, Tensor]:
        """Views of inputs and derivatives, (groups, images, positions, ...), see :mod:`oba.curvature.unfold`."""
        return windows(self.layer, self.x), output_windows(self.layer, self.gradient, group_count(self.layer))

    @property
    def positions(self) -> int:
        """Number of positions."""
        return self.gradient[0].numel() // self.layer.weight.shape[0]


def _of_weight(calls: Sequence[_Call], unfold_bytes: int) -> Tensor:
    layer = calls[0].layer
    groups, outputs, columns = weight_matrix(layer).shape
    total = layer.weight.new_zeros(groups, outputs, columns, dtype=torch.float64)
    views = [call.per_position for call in calls]
    positions = max(call.positions for call in calls)
    alone = len(calls) == positions == 1
    # With a single product, its square is the product of squares, and no example's gradient is held.
    image_bytes = 8 * groups * (positions * (outputs + columns) + (0 if alone else outputs * columns))
    many = max(1, unfold_bytes // image_bytes)
    for start in range(0, len(calls[0].x), many):
        some = slice(start, start + many)
        pairs = [(_by_image(g[:, some], g.dim() - 3), _by_image(x[:, some], g.dim() - 3)) for x, g in views]
        if alone:
            [(g, x)] = pairs
            total.baddbmm_(g[:, :, 0].square().mT, x[:, :, 0].square())
        else:
            total += reduce(torch.add, (g.mT @ x for g, x in pairs)).square().sum(1)
    return total.reshape(layer.weight.shape)


def _of_bias(calls: Sequence[_Call]) -> Tensor:
    views = [call.per_position[1] for call in calls]
    by_image = [g.sum(tuple(range(2, g.dim() - 1)), dtype=torch.float64) for g in views]
    return reduce(torch.add, by_image).square().sum(1).flatten()


def _by_image(view: Tensor, positions: int) -> Tensor:
    """Unfold a view: float64, (groups, images, positions, columns)."""
    return rows(view, positions).unflatten(1, (view.shape[1], -1))

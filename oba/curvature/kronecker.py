r"""Kronecker factors of a layer's Fisher information (K-FAC), accumulated over batches in bounded memory.

A layer ``z = Θ a`` on unfolded inputs a, which end with a constant 1 where the layer has a bias, has on example n the
derivative :math:`\sum_t g_{nt} a_{nt}^T`, the sum over positions t of a convolution, or over tokens. K-FAC takes
inputs and derivatives, and the derivatives of different positions, for independent:

.. math:: F = E_n\big[\mathrm{vec}(\nabla_\Theta)\,\mathrm{vec}(\nabla_\Theta)^T\big] \approx G \otimes A, \qquad
          G = E_n \sum_t g_{nt} g_{nt}^T, \quad A = E_{nt}[a a^T].

A is what :mod:`oba.curvature.moments` holds, and G is accumulated here. So is :math:`Z = E_{nt}[z z^T] = \Theta A
\Theta^T`, because that is all of A that the loss of whole filters asks for: :math:`\tfrac12 \mathrm{tr}\, G_{BB}
\Theta_B A \Theta_B^T`. Z is as small as G, and needs no input to be unfolded.

Martens and Grosse, ICML 2015; for convolutions Grosse and Martens, ICML 2016.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oba import ranks
from oba.curvature.grams import BUDGET_BYTES, UNFOLD_BYTES, passes
from oba.curvature.moments import InputMoments
from oba.curvature.output_gradients import differentiate_outputs
from oba.curvature.passes import Loss
from oba.curvature.refit import damped
from oba.curvature.unfold import (
    MatrixLayer,
    check_matrix,
    group_count,
    matrix_layer,
    output_windows,
    parts,
    rows,
    weight_matrix,
)
from oba.errors import ScoreError


@dataclass(frozen=True)
class OutputMoments:
    """Second moments of a layer's outputs and of what the loss says of them.

    Attributes:
        outputs: Z, mean over images and positions, float64, shape (groups, outputs of a group, outputs of a group).
        gradients: G, mean over images of the sum over positions, in the same shape.
    """

    outputs: Tensor
    gradients: Tensor


def output_moments(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Loss]],
    layers: Sequence[str],
    *,
    budget_bytes: int = BUDGET_BYTES,
    unfold_bytes: int = UNFOLD_BYTES,
) -> Iterator[tuple[str, OutputMoments]]:
    """Yield the moments of the outputs of layers, with one pass each way per batch for as many layers as fit.

    They are those of the batches of all ranks, which go through the layers together.

    Args:
        model: The network, in the mode in which it is to be run, with norms that do not couple examples.
        batches: This rank's inputs, shape (N, ...), and what maps the outputs to the sum of the examples' losses;
            iterated once per pass.
        layers: Names of Conv1d, Conv2d, Conv3d and Linear layers.
        budget_bytes: Largest size of the moments of one pass; a single layer may exceed it.
        unfold_bytes: Largest size of the outputs of one layer that are copied at one time.

    Yields:
        Names and moments, in the order of ``layers``.

    Raises:
        ModelError: If a layer is of another kind.
        ScoreError: If no derivative reaches a layer, or moments are not finite.
    """
    sizes = {name: _Sums.bytes_of(matrix_layer(model, name)) for name in layers}
    for names in passes(sizes, budget_bytes):
        sums = {name: _Sums(name, matrix_layer(model, name), unfold_bytes) for name in names}
        images = 0
        for inputs, loss in batches:
            differentiate_outputs(model, inputs, loss, names, lambda name, x, y, sums=sums: sums[name].add(x, y))
            images += len(inputs)
        images = ranks.total(images)
        for name in names:
            yield name, sums.pop(name).moments(images)


def filters(layer: MatrixLayer) -> Tensor:
    """Return Θ: a layer's filters, each with its element of the bias at the end.

    Args:
        layer: The layer.

    Returns:
        Float64, shape (groups, outputs of a group, columns), or one column more with a bias.
    """
    weight = weight_matrix(layer)
    if layer.bias is None:
        return weight
    return torch.cat([weight, layer.bias.detach().double().reshape(*weight.shape[:2], 1)], -1)


def input_factor(layer: MatrixLayer, moments: InputMoments) -> Tensor:
    """Return A, with the constant input of the bias where the layer has one.

    Args:
        layer: The layer.
        moments: Of its inputs.

    Returns:
        Float64, shape (groups, columns of Θ, columns of Θ).
    """
    if layer.bias is None:
        return moments.gram
    last = torch.cat([moments.mean, moments.mean.new_ones(len(moments.mean), 1)], -1)
    return torch.cat([torch.cat([moments.gram, moments.mean[:, None]], -2), last[..., None]], -1)


def damped_inverse(factor: Tensor, damping: float) -> Tensor:
    """Return ``(M + λ · mean(diag M) · I)⁻¹``.

    Args:
        factor: M, positive semidefinite, shape (..., n, n).
        damping: λ, see :func:`oba.curvature.refit.damped`.

    Returns:
        The same shape.
    """
    return torch.cholesky_inverse(torch.linalg.cholesky(damped(factor, damping)))


def filter_blocks(matrix: Tensor, indices: Tensor) -> Tensor:
    """Return the blocks of a matrix over filters that belong to sets of filters.

    Args:
        matrix: Shape (groups, outputs of a group, outputs of a group); between groups everything is 0.
        indices: Filters, numbered through all groups, shape (sets, filters of each).

    Returns:
        Shape (sets, filters of each, filters of each).
    """
    size = matrix.shape[-1]
    group, place = indices.div(size, rounding_mode="floor"), indices % size
    blocks = matrix[group[:, :, None], place[:, :, None], place[:, None, :]]
    return blocks * (group[:, :, None] == group[:, None, :])


class _Sums:
    """The sums of one layer over its calls."""

    def __init__(self, name: str, layer: MatrixLayer, unfold_bytes: int) -> None:
        self._name, self._layer, self._limit = name, layer, unfold_bytes
        self._groups, outputs = group_count(layer), layer.weight.shape[0] // group_count(layer)
        shape = (self._groups, outputs, outputs)
        self._outputs = torch.zeros(shape, dtype=torch.float64, device=layer.weight.device)
        self._gradients = torch.zeros_like(self._outputs)
        self._rows = 0
        self._calls = 0

    @staticmethod
    def bytes_of(layer: MatrixLayer) -> int:
        return 16 * layer.weight.shape[0] ** 2 // group_count(layer)

    def add(self, x: Tensor, y: Tensor) -> _Sums:
        """Add the outputs of one call; what is returned takes their derivative."""
        if not self._rows:
            check_matrix(self._name, self._layer, x[:1], y[:1])
        self._rows += self._add(self._outputs, y)
        return self

    def __call__(self, gradient: Tensor) -> None:
        self._calls += 1
        self._add(self._gradients, gradient)

    def _add(self, total: Tensor, y: Tensor) -> int:
        """Add the products of outputs in place; return the number of rows."""
        view = output_windows(self._layer, y, self._groups)
        positions = view.dim() - 3
        images, lines = view.shape[1:3]
        for some, of_them in parts(images, lines, 8 * y[0].numel() // lines, self._limit):
            part = rows(view[:, some, of_them], positions)
            total.baddbmm_(part.mT, part)
        return view.shape[1:-1].numel()

    def moments(self, images: int) -> OutputMoments:
        ranks.sum_over_ranks([self._outputs, self._gradients])
        self._rows = ranks.total(self._rows)
        if not ranks.total(self._calls):
            raise ScoreError(f"no derivative of the loss reaches the outputs of layer {self._name!r}")
        found = OutputMoments(self._outputs / self._rows, self._gradients / images)
        if not all(matrix.isfinite().all() for matrix in (found.outputs, found.gradients)):
            raise ScoreError(f"the outputs of layer {self._name!r} or their derivatives are not finite")
        return found

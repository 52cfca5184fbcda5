r"""Refit a layer's weights on the inputs that remain: ridge regression towards the present weights.

.. math:: \min_{W, b}\; E\lVert y - Wx - b\rVert^2 + \mu \lVert W - W_0\rVert^2, \qquad
          \mu = \lambda \cdot \mathrm{mean}(\mathrm{diag}\, G)

The ridge pulls towards W₀ and not towards 0: a large λ changes nothing, and the loss is never above that of W₀. Without
damping this is the least-squares reconstruction of ThiNet (Luo et al. 2017), He et al. (2017) and OBC (Frantar and
Alistarh 2022); with y = W₀ x on all inputs it is ``W_K' = W A_:K (A_KK)⁻¹`` with ``A = G + μI``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oba.curvature.moments import InputMoments, TargetMoments

SMALLEST_DAMPING = 1e-8
"""Damping that a singular Gram matrix needs in float64: with it, the Cholesky factor exists for up to 10⁴ columns."""
_NO_INPUT = 1e-30
"""Stands for the mean diagonal of a layer whose inputs are all 0."""


def damped(gram: Tensor, damping: float) -> Tensor:
    """Return ``G + λ · mean(diag G) · I``, which is positive definite.

    Args:
        gram: G, shape (..., columns, columns), positive semidefinite.
        damping: λ; at least :data:`SMALLEST_DAMPING` is used.

    Returns:
        A, a new tensor.
    """
    return _add_to_diagonal(gram.clone(), _strength(gram, damping))


def reconstruction_loss(
    inputs: InputMoments, targets: TargetMoments, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    r"""Return the mean squared error of each output, ``E(y_o − (Wx + b)_o)²``.

    .. math:: p - 2\,\mathrm{diag}(C W^T) + \mathrm{diag}(W G W^T) + b\,(b + 2 W m - 2 \bar y)

    Args:
        inputs: Moments of the inputs that the layer has.
        targets: Moments of the outputs that it should have.
        weight: W, float64, shape (groups, outputs of a group, columns).
        bias: b, float64, shape (groups, outputs of a group); None without one.

    Returns:
        Shape (groups, outputs of a group), in the square of the outputs' units, per row (image and position).
    """
    loss = targets.power + ((weight @ inputs.gram - 2 * targets.cross) * weight).sum(-1)
    if bias is not None:
        loss = loss + bias * (bias - 2 * refit_bias(inputs, targets, weight))
    return loss.clamp_min(0)


def refit_bias(inputs: InputMoments, targets: TargetMoments, weight: Tensor) -> Tensor:
    """Return the best bias for given weights, ``b = ȳ − W m``: what left the sum is replaced by its mean.

    Args:
        inputs: Moments of the inputs that the layer has.
        targets: Moments of the outputs that it should have.
        weight: W, float64, shape (groups, outputs of a group, columns).

    Returns:
        Shape (groups, outputs of a group).
    """
    return targets.mean - (weight @ inputs.mean[..., None])[..., 0]


def refit(
    inputs: InputMoments, targets: TargetMoments, weight: Tensor, bias: Tensor | None, damping: float
) -> tuple[Tensor, Tensor | None]:
    r"""Return the weights and bias that reconstruct the targets best, from the present weights on.

    The bias is fitted too, and not penalised: it is eliminated by centring all moments,

    .. math:: W = W_0 + (\bar C - W_0 \bar G)(\bar G + \mu I)^{-1}, \quad b = \bar y - W m, \qquad
              \bar G = G - m m^T, \quad \bar C = C - \bar y m^T

    Args:
        inputs: Moments of the inputs that the layer has, G, m.
        targets: Moments of the outputs that it should have, C, ȳ.
        weight: W₀, float64, shape (groups, outputs of a group, columns).
        bias: b₀, shape (groups, outputs of a group), zeros for a new one; None for no bias at all.
        damping: λ, relative to the mean of diag G (not centred); at least :data:`SMALLEST_DAMPING` is used, so that a
            singular G needs no care.

    Returns:
        W in the shape of ``weight``, and b; None where ``bias`` is.
    """
    strength = _strength(inputs.gram, damping)
    gram, cross = inputs.gram, targets.cross
    if bias is not None:
        gram = gram - inputs.mean[..., :, None] * inputs.mean[..., None, :]
        cross = cross - targets.mean[..., :, None] * inputs.mean[..., None, :]
    residual = cross - weight @ gram
    factor = torch.linalg.cholesky(_add_to_diagonal(gram.clone() if bias is None else gram, strength))
    fitted = weight + torch.cholesky_solve(residual.mT, factor).mT
    return fitted, None if bias is None else refit_bias(inputs, targets, fitted)


def _strength(gram: Tensor, damping: float) -> Tensor:
    """Return μ of each group."""
    mean = gram.diagonal(dim1=-2, dim2=-1).mean(-1)
    return max(damping, SMALLEST_DAMPING) * torch.where(mean > 0, mean, _NO_INPUT)


def _add_to_diagonal(gram: Tensor, strength: Tensor) -> Tensor:
    """Add to the diagonal in place."""
    gram.diagonal(dim1=-2, dim2=-1).add_(strength[..., None])
    return gram

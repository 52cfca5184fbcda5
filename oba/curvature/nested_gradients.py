r"""Exact directional derivatives by nested differentiation.

For a direction ``v`` that is held constant, the order-k form is

.. math:: D^k_i = \sum_{i_2 \dots i_k} \frac{\partial^k L}{\partial\theta_i \partial\theta_{i_2} \cdots
          \partial\theta_{i_k}}\, v_{i_2} \cdots v_{i_k}

so ``D^1`` is the gradient and ``D^2 = Hv`` the Hessian-vector product (Pearlmutter 1994).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from oba.curvature.checks import check_differentiable


def nested_gradient(
    value: Tensor, parameters: Sequence[Tensor], direction: Sequence[Tensor], order: int
) -> list[Tensor]:
    """Return ``D^order`` of a scalar.

    Run the forward pass under :class:`oba.curvature.Arithmetic`, or some operations fail or are wrong.

    Args:
        value: The scalar L, attached to ``parameters``.
        parameters: Leaves θ that require a gradient.
        direction: The constant vector v, shaped like ``parameters``.
        order: Number of differentiations, at least 1.

    Returns:
        One tensor for each parameter, in its shape; zero where L does not depend on it.

    Raises:
        ScoreError: If an operation can be differentiated only once.
    """
    form = value
    for k in range(1, order + 1):
        gradients = torch.autograd.grad(form, parameters, create_graph=k < order, materialize_grads=True)
        if k == order:
            return list(gradients)
        form = torch.stack([(g * v).sum() for g, v in zip(gradients, direction, strict=True)]).sum()
        if not form.requires_grad:
            break
        check_differentiable(form)
    return [torch.zeros_like(p) for p in parameters]

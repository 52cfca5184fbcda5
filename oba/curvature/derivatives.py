r"""Exact directional derivatives by nested differentiation.

For a direction ``v`` that is held constant, the order-k form is

.. math:: D^k_i = \sum_{i_2 \dots i_k} \frac{\partial^k L}{\partial\theta_i \partial\theta_{i_2} \cdots
          \partial\theta_{i_k}}\, v_{i_2} \cdots v_{i_k}

so ``D^1`` is the gradient and ``D^2 = Hv`` the Hessian-vector product (Pearlmutter 1994).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from oba.errors import ScoreError


@contextmanager
def differentiable_attention() -> Iterator[None]:
    """Run scaled-dot-product attention as plain arithmetic: the fused kernels can be differentiated only once.

    Yields:
        Nothing.
    """
    with sdpa_kernel(SDPBackend.MATH):
        yield


def nested_gradient(
    value: Tensor, parameters: Sequence[Tensor], direction: Sequence[Tensor], order: int
) -> list[Tensor]:
    """Return ``D^order`` of a scalar.

    Run the forward pass under :class:`oba.curvature.arithmetic.Arithmetic`, or some operations fail or are wrong.

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


def check_differentiable(form: Tensor) -> None:
    """Refuse a custom ``autograd.Function`` that is marked as once differentiable.

    PyTorch leaves a node in the graph there that raises an error, but with no way on to the parameters: a gradient with
    respect to them would not run it, and be silently too small.

    Args:
        form: What is to be differentiated, itself a derivative.

    Raises:
        ScoreError: If there is such a node.
    """
    waiting, seen = [form.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if type(node).__name__ == "Error":
            raise ScoreError("an operation can be differentiated only once (a once_differentiable autograd.Function)")
        seen.add(node)
        waiting.extend(following for following, _ in node.next_functions)

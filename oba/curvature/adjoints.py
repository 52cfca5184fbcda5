r"""Algorithm 1 of *Optimal Brain Apoptosis* (Sun et al., ICLR 2025) as one rule for every product.

With the direction v = θ on the weights and biases of parameter layers:

1. tangents ``ȧ`` of all intermediates, through the Jacobians at the current point;
2. adjoints :math:`\delta_z = \partial L / \partial z` of the output z of every product;
3. curvature adjoints: a product ``z = B(a, b)`` adds

   .. math:: \lambda_a \mathrel{+}= B(\cdot, \dot b)^T \delta_z, \qquad
             \lambda_b \mathrel{+}= B(\dot a, \cdot)^T \delta_z

   and λ flows back through the same frozen Jacobians; at the loss λ = 0.

The score of parameter i is :math:`\theta_i \lambda_{\theta_i}`. Since λ is linear, all products
share one backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn

from oba.curvature.tangents import TangentMode, dual_level
from oba.curvature.units import PARAMETER_LAYERS
from oba.curvature.watch import Watch
from oba.errors import ScoreError


def curvature_adjoints(
    model: nn.Module, inputs: Tensor, loss: Callable[[Any], Tensor], names: Iterable[str]
) -> dict[str, Tensor]:
    """Return λ of parameters whose direction is their own value.

    Args:
        model: The network, in the mode in which it is to be differentiated.
        inputs: One batch, shape (N, ...).
        loss: Maps the model's outputs to the scalar L.
        names: The parameters that carry a direction, as in ``named_parameters()``.

    Returns:
        λ for each name, in the parameter's shape.

    Raises:
        ScoreError: If an operation cannot be differentiated, or uses a parameter out of sight.
    """
    _check_transparent(model)
    parameters = dict(model.named_parameters())
    moving = {name: parameters[name] for name in names}
    leaves = {name: parameter.detach().requires_grad_() for name, parameter in moving.items()}
    with Watch(model) as watch:
        with watch.explain("the forward pass with tangents"), dual_level():
            duals = {moving[name]: forward_ad.make_dual(leaf, leaf.detach()) for name, leaf in leaves.items()}
            with TangentMode(duals, watch) as mode:
                outputs = model(inputs.clone())
        value = loss(outputs)
        with watch.explain("the backward pass"):
            deltas = _adjoints(value, [edge for edge, _ in mode.products], moving)
            pairs = zip(mode.products, deltas, strict=True)
            roots = [(tangent, d) for (_, tangent), d in pairs if d is not None and tangent.requires_grad]
            if not roots:
                return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
            tangents, weights = zip(*roots, strict=True)
            adjoints = torch.autograd.grad(tangents, list(leaves.values()), weights, materialize_grads=True)
    return dict(zip(leaves, adjoints, strict=True))


def _check_transparent(model: nn.Module) -> None:
    """Refuse modules into which a function mode or forward-mode AD cannot look."""
    for name, module in model.named_modules():
        where = f"module {name!r} ({type(module).__name__})" if name else f"the model ({type(module).__name__})"
        compiled = hasattr(module, "_orig_mod") or module._compiled_call_impl is not None
        if compiled or isinstance(module, torch.jit.ScriptModule):
            raise ScoreError(f"{where} is compiled, so its products cannot be seen; score the module it was made from")
        if module._backward_hooks or module._backward_pre_hooks:
            raise ScoreError(f"{where} carries backward hooks, which have no forward derivative; remove them to score")
        if isinstance(module, PARAMETER_LAYERS) and "weight" not in module._parameters:
            raise ScoreError(f"{where} computes its weight from other parameters; make the weight permanent to score")


def _adjoints(value: Tensor, edges: list[Any], moving: dict[str, nn.Parameter]) -> list[Tensor | None]:
    """Return δ = ∂L/∂z at every edge, None where the loss does not depend on z."""
    # Every use of a moving parameter was replaced by its dual; a gradient that still reaches the parameter itself
    # comes from an operation that the function mode did not see.
    visible = {name: parameter for name, parameter in moving.items() if parameter.requires_grad}
    wanted = [*edges, *visible.values()]
    if not value.requires_grad or not wanted:
        return [None] * len(edges)
    gradients = torch.autograd.grad(value, wanted, retain_graph=True, allow_unused=True)
    for name, gradient in zip(visible, gradients[len(edges) :], strict=True):
        if gradient is not None:
            raise ScoreError(f"parameter {name!r} is used out of sight, for example by a custom autograd.Function")
    return list(gradients[: len(edges)])

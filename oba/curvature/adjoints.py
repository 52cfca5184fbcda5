r"""Algorithm 1 of *Optimal Brain Apoptosis* (Sun et al., ICLR 2025) as one rule for every product.

With the direction v = θ on the weights and biases of parameter layers:

1. tangents ``ȧ`` of all intermediates, through the Jacobians at the current point;
2. adjoints :math:`\delta_z = \partial L / \partial z` of the output z of every product;
3. curvature adjoints: a product ``z = B(a, b)`` adds

   .. math:: \lambda_a \mathrel{+}= B(\cdot, \dot b)^T \delta_z, \qquad
             \lambda_b \mathrel{+}= B(\dot a, \cdot)^T \delta_z

   and λ flows back through the same frozen Jacobians; at the loss λ = 0.

The score of parameter i is :math:`\theta_i \lambda_{\theta_i}`. Since λ is linear, all products share one backward
pass. Products (weight, input) of ordinary layers take part as nodes of their own (:mod:`oba.curvature.layers`), all
others through their attached tangents (:mod:`oba.curvature.tangents`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from oba.curvature.layers import Sweep
from oba.curvature.sums import ChannelKey
from oba.curvature.tangents import TangentMode, dual_level
from oba.curvature.transparent import require_transparent, require_visible
from oba.curvature.watch import Watch


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
    """
    parameters = dict(model.named_parameters())
    moving = {name: parameters[name] for name in names}
    adjoints = _adjoints(model, inputs, loss, moving, Sweep())
    return {name: torch.zeros_like(moving[name]) if a is None else a for name, a in adjoints.items()}


def channel_curvature(
    model: nn.Module,
    inputs: Tensor,
    loss: Callable[[Any], Tensor],
    names: Iterable[str],
    wanted: Collection[ChannelKey],
) -> tuple[dict[ChannelKey, Tensor], dict[str, Tensor]]:
    """Return sums of θ ⊙ λ over channels, as far as they need no gradient of a weight.

    Args:
        model: The network, in the mode in which it is to be differentiated.
        inputs: One batch, shape (N, ...).
        loss: Maps the model's outputs to the scalar L.
        names: The parameters that carry a direction, as in ``named_parameters()``.
        wanted: Names of weights with ``"out"`` or ``"in"``: the channels whose sums are wanted.

    Returns:
        First the sums for each wanted weight, and for the bias that goes with it, shape (channels,), float64: what
        layers contribute that are used in the ordinary way. Then λ of parameters that are used in other ways; their
        part of a sum is still to be added.
    """
    parameters = dict(model.named_parameters())
    sweep = Sweep(wanted)
    adjoints = _adjoints(model, inputs, loss, {name: parameters[name] for name in names}, sweep)
    return sweep.sums, {name: a for name, a in adjoints.items() if a is not None}


def _adjoints(
    model: nn.Module, inputs: Tensor, loss: Callable[[Any], Tensor], moving: dict[str, nn.Parameter], sweep: Sweep
) -> dict[str, Tensor | None]:
    """Run Algorithm 1; λ is None where no product contributes."""
    require_transparent(model)
    with Watch(model) as watch:
        with watch.explain("the forward pass with tangents"), dual_level():
            mode = TangentMode(moving, watch, sweep)
            with mode:
                outputs = model(inputs.clone())
        value = loss(outputs)
        with watch.explain("the backward pass"):
            if not (moving and value.requires_grad):
                return dict.fromkeys(moving)
            pairs = zip(mode.products, _deltas(value, mode, moving), strict=True)
            roots = [(tangent, delta) for (_, tangent), delta in pairs if delta is not None]
            sweep.second = True
            # At the loss λ = 0; its node is a root all the same, because the layers' nodes are reached from there.
            tangents, weights = zip((value, torch.zeros_like(value)), *roots, strict=True)
            adjoints = torch.autograd.grad(tangents, list(mode.leaves.values()), weights, allow_unused=True)
    return dict(zip(mode.leaves, adjoints, strict=True))


def _deltas(value: Tensor, mode: TangentMode, moving: dict[str, nn.Parameter]) -> list[Tensor | None]:
    """Give δ = ∂L/∂z to the layers' nodes; return those of the other products, None where L does not depend on z."""
    edges = [edge for edge, _ in mode.products]
    leaves = [mode.leaves[name] for name in mode.weights]
    visible = {name: parameter for name, parameter in moving.items() if parameter.requires_grad}
    wanted = [*edges, *visible.values(), *leaves]
    gradients = torch.autograd.grad(value, wanted, retain_graph=True, allow_unused=True) if wanted else ()
    require_visible(visible, gradients[len(edges) : len(edges) + len(visible)])
    return list(gradients[: len(edges)])

r"""Algorithm 1 of *Optimal Brain Apoptosis* (Sun et al., ICLR 2025) as one rule for every product.

With the direction v = θ on the weights and biases of parameter layers:

1. tangents ``ȧ`` of all intermediates, through the Jacobians at the current point;
2. adjoints :math:`\delta_z = \partial L / \partial z` of the output z of every product;
3. curvature adjoints: a product ``z = B(a, b)`` adds

   .. math:: \lambda_a \mathrel{+}= B(\cdot, \dot b)^T \delta_z, \qquad
             \lambda_b \mathrel{+}= B(\dot a, \cdot)^T \delta_z

   and λ flows back through the same frozen Jacobians; at the loss λ = 0.

The score of parameter i is :math:`\theta_i \lambda_{\theta_i}`. Since λ is linear, all products share one backward
pass. Products (weight, input) of ordinary layers take part as nodes of their own
(:mod:`oba.curvature.adjoint_layers`), all others through their attached tangents (:mod:`oba.curvature.tangents`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor, nn

from oba.curvature.channel_sums import ChannelKey
from oba.curvature.passes import Loss, channel_derivatives, parameter_derivatives
from oba.curvature.tangents import TangentMode


def curvature_adjoints(model: nn.Module, inputs: Tensor, loss: Loss, names: Iterable[str]) -> dict[str, Tensor]:
    """Return λ of parameters whose direction is their own value.

    Args:
        model: The network, in the mode in which it is to be differentiated.
        inputs: One batch, shape (N, ...).
        loss: Maps the model's outputs to the scalar L.
        names: The parameters that carry a direction, as in ``named_parameters()``.

    Returns:
        λ for each name, in the parameter's shape.
    """
    return parameter_derivatives(_AdjointMode, model, inputs, loss, names)


def channel_curvature(
    model: nn.Module,
    inputs: Tensor,
    loss: Loss,
    names: Iterable[str],
    wanted: Collection[ChannelKey],
) -> tuple[dict[ChannelKey, Tensor], dict[str, Tensor]]:
    """Return sums of θ ⊙ λ over channels, where no gradient of a weight is needed.

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
    return channel_derivatives(_AdjointMode, model, inputs, loss, names, wanted)


class _AdjointMode(TangentMode):
    """Send the adjoints δ of all products back, then their curvature adjoints λ."""

    def backward(self, loss: Tensor) -> Sequence[Tensor | None]:
        """Return λ of each leaf, None where no product contributes."""
        edges = [edge for edge, _ in self.products]
        # Asking for the weights makes δ reach every layer's node.
        weights = [self.leaves[name] for name in self.weights]
        deltas = self.gradients(loss, [*edges, *weights], retain_graph=True)
        self.phase.second = True
        found = zip(self.products, deltas, strict=False)
        roots = [(tangent, delta) for (_, tangent), delta in found if delta is not None]
        # At the loss λ = 0; its node is a root all the same, because the layers' nodes are reached from there.
        tangents, adjoints = zip((loss, torch.zeros_like(loss)), *roots, strict=True)
        return torch.autograd.grad(tangents, list(self.leaves.values()), adjoints, allow_unused=True)

r"""Exact Hessian-vector products in one forward pass with tangents and one backward pass.

With the direction v held constant, the tangent of the loss, :math:`\dot L = g^T v`, is a function of the parameters
whose gradient is Hv. Its forward pass carries a value and a tangent through every operation, its backward pass an
adjoint of either. For v = θ Conv and Linear layers and frozen batch norms do so by :mod:`oba.curvature.dual_layers`;
forward-mode AD does all the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn

from oba.curvature.arithmetic import Arithmetic
from oba.curvature.channel_sums import ChannelKey, Sums
from oba.curvature.dual_layers import Dual, DualLayer
from oba.curvature.dual_mode import DualMode, dual_level
from oba.curvature.frozen_norms import FrozenNorm
from oba.curvature.linear_maps import LinearMap
from oba.curvature.passes import Loss, channel_derivatives, parameter_derivatives
from oba.curvature.running_modules import Watch
from oba.errors import ScoreError


def self_product(model: nn.Module, inputs: Tensor, loss: Loss, names: Iterable[str]) -> dict[str, Tensor]:
    """Return Hθ.

    Args:
        model: The network, in the mode in which it is to be differentiated.
        inputs: One batch, shape (N, ...).
        loss: Maps the model's outputs to the scalar L.
        names: The parameters that make up θ, as in ``named_parameters()``; all others are constants.

    Returns:
        Hθ for each name, in the parameter's shape.
    """
    return parameter_derivatives(_HessianMode, model, inputs, loss, names)


def channel_self_product(
    model: nn.Module,
    inputs: Tensor,
    loss: Loss,
    names: Iterable[str],
    wanted: Collection[ChannelKey],
) -> tuple[dict[ChannelKey, Tensor], dict[str, Tensor]]:
    """Return sums of θ ⊙ Hθ over channels, where no gradient of a weight is needed.

    Args:
        model: The network, in the mode in which it is to be differentiated.
        inputs: One batch, shape (N, ...).
        loss: Maps the model's outputs to the scalar L.
        names: The parameters that make up θ, as in ``named_parameters()``; all others are constants.
        wanted: Names of weights with ``"out"`` or ``"in"``: the channels whose sums are wanted.

    Returns:
        As :func:`oba.curvature.channel_curvature`, with Hθ in the place of curvature adjoints.
    """
    return channel_derivatives(_HessianMode, model, inputs, loss, names, wanted)


class _HessianMode(DualMode):
    """Keep tangents attached to the graph, so that the tangent of the loss can be differentiated."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], sums: Sums, watch: Watch) -> None:
        super().__init__(parameters, sums, watch)
        self._outputs: list[Dual] = []

    @staticmethod
    @contextmanager
    def level() -> Iterator[None]:
        with dual_level(), Arithmetic(2, tangents=True):
            yield

    def read(self, outputs: Any) -> Any:
        """Return outputs without their tangents, which are noted together with what they belong to."""
        if isinstance(outputs, Tensor):
            y, y_dot = forward_ad.unpack_dual(outputs)
            if y_dot is not None and y.requires_grad:
                self._outputs.append((y, y_dot))
            return y
        if isinstance(outputs, dict):
            return {key: self.read(value) for key, value in outputs.items()}
        if type(outputs) in (list, tuple):
            return type(outputs)(self.read(value) for value in outputs)
        raise ScoreError(
            f"the model returns {type(outputs).__name__}; allowed: tensors, and lists and dictionaries of them"
        )

    def backward(self, loss: Tensor) -> Sequence[Tensor | None]:
        """Differentiate ``⟨∇L(y), ẏ⟩`` for the outputs y: so the loss needs no forward derivative."""
        gradients = self.gradients(loss, [y for y, _ in self._outputs], create_graph=True)
        terms = [(g * y_dot).sum() for g, (_, y_dot) in zip(gradients, self._outputs, strict=True) if g is not None]
        tangent = sum(terms, loss.new_zeros(()))
        return super().backward(tangent) if tangent.requires_grad else [None] * len(self.leaves)

    def node(self, names: tuple[str, str], linear_map: LinearMap, input: Tensor) -> Tensor:
        x, x_dot = forward_ad.unpack_dual(input)
        call = DualLayer(names, linear_map, self.sums, x_dot)
        return forward_ad.make_dual(*call.run(x, x_dot, self.leaves[names[0]], self.leaves.get(names[1])))

    def frozen_norm(self, input: Tensor, norm: FrozenNorm) -> Tensor | None:
        """Make the norm a node if its parameters move both, or neither."""
        moving = [bool(self.name_of(tensor)) for tensor in (norm.weight, norm.bias)]
        if any(moving) and not all(moving):
            return None
        if all(moving):
            weight, bias = (self.leaves[self.name_of(tensor)] for tensor in (norm.weight, norm.bias))
            norm = replace(norm, weight=weight, bias=bias)
        x, x_dot = forward_ad.unpack_dual(input)
        of_parameters = self.sums.wanted is None
        return forward_ad.make_dual(*norm.run_dual(x, x_dot, moves=all(moving), of_parameters=of_parameters))

r"""Exact Hessian-vector products in one forward pass with tangents and one backward pass.

With the direction v held constant, the tangent of the loss, :math:`\dot L = g^T v`, is a function of the parameters
whose gradient is Hv. Its forward pass carries a value and a tangent through every operation, its backward pass an
adjoint of either. For v = θ Conv and Linear layers and frozen batch norms do so by :mod:`oba.curvature.pairs`;
forward-mode AD does all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn

from oba.curvature.arithmetic import Arithmetic
from oba.curvature.derivatives import differentiable_attention
from oba.curvature.geometry import Geometry
from oba.curvature.modes import LayerMode
from oba.curvature.norms import FrozenNorm
from oba.curvature.pairs import PairCall
from oba.curvature.sums import ChannelKey, Sums
from oba.curvature.tangents import dual_level
from oba.curvature.transparent import require_attached, require_transparent, require_visible
from oba.curvature.watch import Watch
from oba.errors import ScoreError


def self_product(
    model: nn.Module, inputs: Tensor, loss: Callable[[Any], Tensor], names: Iterable[str]
) -> dict[str, Tensor]:
    """Return Hθ.

    Args:
        model: The network, in the mode in which it is to be differentiated.
        inputs: One batch, shape (N, ...).
        loss: Maps the model's outputs to the scalar L.
        names: The parameters that make up θ, as in ``named_parameters()``; all others are constants.

    Returns:
        Hθ for each name, in the parameter's shape.
    """
    parameters = dict(model.named_parameters())
    moving = {name: parameters[name] for name in names}
    products = _products(model, inputs, loss, moving, Sums())
    return {name: torch.zeros_like(moving[name]) if p is None else p for name, p in products.items()}


def channel_self_product(
    model: nn.Module,
    inputs: Tensor,
    loss: Callable[[Any], Tensor],
    names: Iterable[str],
    wanted: Collection[ChannelKey],
) -> tuple[dict[ChannelKey, Tensor], dict[str, Tensor]]:
    """Return sums of θ ⊙ Hθ over channels, as far as they need no gradient of a weight.

    Args:
        model: The network, in the mode in which it is to be differentiated.
        inputs: One batch, shape (N, ...).
        loss: Maps the model's outputs to the scalar L.
        names: The parameters that make up θ, as in ``named_parameters()``; all others are constants.
        wanted: Names of weights with ``"out"`` or ``"in"``: the channels whose sums are wanted.

    Returns:
        As :func:`oba.curvature.channel_curvature`.
    """
    parameters = dict(model.named_parameters())
    sums = Sums(wanted)
    products = _products(model, inputs, loss, {name: parameters[name] for name in names}, sums)
    return sums.sums, {name: p for name, p in products.items() if p is not None}


def _products(
    model: nn.Module, inputs: Tensor, loss: Callable[[Any], Tensor], moving: dict[str, nn.Parameter], sums: Sums
) -> dict[str, Tensor | None]:
    """Run both passes; None where nothing flows but through sums."""
    require_transparent(model)
    with Watch(model) as watch:
        with differentiable_attention(), dual_level():
            mode = _PairMode(moving, watch, sums)
            with watch.explain("the forward pass with tangents"), Arithmetic(2, tangents=True), mode:
                outputs = model(inputs.clone())
            value = _tangent(loss, outputs, moving)
        if not value.requires_grad:
            return dict.fromkeys(moving)
        leaves = list(mode.leaves.values())
        # Outside of the level, or forward-mode AD would go on through the backward pass.
        with watch.explain("the backward pass"):
            found = torch.autograd.grad(value, [*leaves, *moving.values()], allow_unused=True)
    require_visible(moving, found[len(leaves) :])
    return dict(zip(mode.leaves, found, strict=False))


def _tangent(loss: Callable[[Any], Tensor], outputs: Any, moving: Mapping[str, nn.Parameter]) -> Tensor:
    """Return ``⟨∇L(y), ẏ⟩`` for the outputs y: a loss needs no forward derivative then, only two of the usual kind."""
    found: list[tuple[Tensor, Tensor]] = []
    value = loss(_primals(outputs, found))
    require_attached(value)
    wanted = [*(y for y, _ in found), *moving.values()]
    if not wanted:
        return value.new_zeros(())
    gradients = torch.autograd.grad(value, wanted, create_graph=True, allow_unused=True)
    require_visible(moving, gradients[len(found) :])
    terms = [(g * y_dot).sum() for g, (_, y_dot) in zip(gradients, found, strict=False) if g is not None]
    return sum(terms, value.new_zeros(()))


def _primals(outputs: Any, found: list[tuple[Tensor, Tensor]]) -> Any:
    """Return outputs without their tangents, which are noted together with what they belong to."""
    if isinstance(outputs, Tensor):
        pair = forward_ad.unpack_dual(outputs)
        if pair.tangent is not None and pair.primal.requires_grad:
            found.append((pair.primal, pair.tangent))
        return pair.primal
    if isinstance(outputs, dict):
        return {key: _primals(value, found) for key, value in outputs.items()}
    if type(outputs) in (list, tuple):
        return type(outputs)(_primals(value, found) for value in outputs)
    raise ScoreError(
        f"the model returns {type(outputs).__name__}; allowed: tensors, and lists and dictionaries of them"
    )


class _PairMode(LayerMode):
    """Give parameters and their own values as tangents to a forward pass."""

    def __init__(self, moving: Mapping[str, nn.Parameter], watch: Watch, sums: Sums) -> None:
        leaves = {name: parameter.detach().requires_grad_() for name, parameter in moving.items()}
        duals = {name: forward_ad.make_dual(leaf, leaf.detach()) for name, leaf in leaves.items()}
        super().__init__(moving, leaves, duals, watch)
        self._sums = sums

    def plain(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if torch.is_grad_enabled():
            return func(*args, **kwargs)
        # What no gradient flows through is a constant, and has no tangent either.
        with forward_ad._set_fwd_grad_enabled(False):
            return func(*args, **kwargs)

    def node(self, names: tuple[str, str], geometry: Geometry, input: Tensor) -> Tensor:
        x, x_dot = forward_ad.unpack_dual(input)
        call = PairCall(names, geometry, x_dot, self._sums)
        weight, bias = (self.leaves.get(name) for name in names)
        assert weight is not None
        return forward_ad.make_dual(*call.run(x, x_dot, weight, bias))

    def frozen_norm(self, input: Tensor, norm: FrozenNorm) -> Tensor | None:
        """Make the norm a node if its parameters move both, or neither."""
        moving = [bool(self.name_of(tensor)) for tensor in (norm.weight, norm.bias)]
        if any(moving) and not all(moving):
            return None
        if all(moving):
            weight, bias = (self.leaves[self.name_of(tensor)] for tensor in (norm.weight, norm.bias))
            norm = replace(norm, weight=weight, bias=bias)
        x, x_dot = forward_ad.unpack_dual(input)
        of_parameters = self._sums.wanted is None
        return forward_ad.make_dual(*norm.run_pair(x, x_dot, moves=all(moving), of_parameters=of_parameters))

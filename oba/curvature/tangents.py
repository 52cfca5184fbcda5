r"""Tangents through frozen Jacobians, and the tangent of every product on the way (Algorithm 1, steps 1 and 3).

The forward pass runs under a :class:`torch.overrides.TorchFunctionMode` on dual tensors of forward-mode AD. Every
operation but a product is a frozen unit: forward-mode AD applies its Jacobian at the current point. A product
``z = B(a, b)`` is recorded together with its tangent

.. math:: \dot z = B(a, \dot b) + B(\dot a, b)

in which ``ȧ`` and ``ḃ`` are constants and ``a`` and ``b`` stay attached to the graph: the vector-Jacobian product of
``ż`` with ``δ_z`` is then exactly what the product adds to the curvature adjoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from oba.curvature.adjoint_layers import AdjointLayer, Phase
from oba.curvature.channel_sums import Sums
from oba.curvature.dual_mode import DualMode
from oba.curvature.frozen_norms import FrozenNorm
from oba.curvature.linear_maps import LinearMap
from oba.curvature.products import IN_PLACE, MULTILINEAR
from oba.curvature.running_modules import Watch


class TangentMode(DualMode):
    """Carry tangents through a forward pass and record its products.

    Attributes:
        phase: Tells the layers' nodes which backward pass is running.
        products: For every product of two moving factors but those of :mod:`oba.curvature.adjoint_layers`, in order:
            where the gradient with respect to its output z is found, and where that of its tangent ż enters, on the way
            to the factors.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], sums: Sums, watch: Watch) -> None:
        """Prepare one forward pass in which parameters move in their own direction."""
        super().__init__(parameters, sums, watch)
        self.phase = Phase()
        self.products: list[tuple[GradientEdge, GradientEdge]] = []

    def run(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run an operation on dual tensors."""
        if self._watch.in_unit and func is not F.batch_norm:
            return self.plain(func, args, kwargs)
        if func in MULTILINEAR:
            return self._product(func, args, kwargs)
        if func in IN_PLACE and any(isinstance(a, Tensor) for a in (*args[1:], *kwargs.values())):
            # A copy, because the first tensor's values are still needed after it is overwritten.
            product = self.run(IN_PLACE[func], [args[0].clone(), *args[1:]], kwargs)
            return args[0].copy_(product)
        return super().run(func, args, kwargs)

    def frozen_norm(self, input: Tensor, norm: FrozenNorm) -> Tensor | None:
        """Multiply value and tangent by the same numbers."""
        x, x_dot = _unpack(input)
        y = super().frozen_norm(x, norm)
        return y if y is None or x_dot is None else forward_ad.make_dual(y, x_dot * norm.scale(x_dot))

    def node(self, names: tuple[str, str], linear_map: LinearMap, input: Tensor) -> Tensor:
        """Run a layer the quick way."""
        x, x_dot = _unpack(input)
        call = AdjointLayer(names, linear_map, self.sums, x_dot, self.phase)
        return forward_ad.make_dual(*call.run(x, self.leaves[names[0]], self.leaves.get(names[1])))

    def other_layer(self, func: Any, args: list[Any], options: dict[str, Any]) -> Tensor:
        """Run a layer as any product."""
        input, weight, bias, *rest = args
        (x, x_dot), (w, w_dot) = _unpack(input), _unpack(weight)
        b, b_dot = (None, None) if bias is None else _unpack(bias)
        if x_dot is None or w_dot is None:
            return self.plain(func, args, options)
        tangent = func(x, w_dot, b_dot, *rest, **options) + func(x_dot, w, None, *rest, **options)
        return self._record(func(x, w, b, *rest, **options), tangent)

    def plain(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run an operation whose Jacobian is held at the current point."""
        result = super().plain(func, args, kwargs)
        if torch.is_grad_enabled():
            for output in result if isinstance(result, (list, tuple)) else (result,):
                _detach_tangent(output)
        return result

    def _product(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run a function that is linear in each of its tensors; an argument may also be a list of tensors."""
        args = [list(a) if isinstance(a, (list, tuple)) else a for a in args]
        inner = [(a, i) for a in args if isinstance(a, list) for i in range(len(a))]
        places: list[tuple[Any, Any]] = [*((args, i) for i in range(len(args))), *inner, *((kwargs, k) for k in kwargs)]
        slots = [(container, key) for container, key in places if isinstance(container[key], Tensor)]
        pairs = [_unpack(container[key]) for container, key in slots]
        moving = [(i, tangent) for i, (_, tangent) in enumerate(pairs) if tangent is not None]
        if len(moving) < 2:
            return self.plain(func, args, kwargs)

        def call(values: list[Tensor]) -> Tensor:
            for (container, key), value in zip(slots, values, strict=True):
                container[key] = value
            return func(*args, **kwargs)

        factors = [primal for primal, _ in pairs]
        terms = [call([*factors[:i], tangent, *factors[i + 1 :]]) for i, tangent in moving]
        return self._record(call(factors), sum(terms[1:], terms[0]))

    def _record(self, z: Tensor, tangent: Tensor) -> Tensor:
        if tangent.requires_grad:
            # Where gradients enter, not the tensors: their values need not stay in memory.
            self.products.append((get_gradient_edge(z), get_gradient_edge(tangent)))
        return forward_ad.make_dual(z, tangent.detach())


def _detach_tangent(output: Any) -> None:
    """Cut a tangent off its graph: it is a constant, and the graph would only hold memory."""
    if isinstance(output, Tensor) and output.is_floating_point():
        tangent = forward_ad.unpack_dual(output).tangent
        # Views cannot be cut, and need not be.
        if tangent is not None and tangent.requires_grad and not tangent._is_view():
            tangent.detach_()


def _unpack(tensor: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return a tensor's value, attached to the graph, and its constant tangent if it has one."""
    if not tensor.is_floating_point():
        return tensor, None
    primal, tangent = forward_ad.unpack_dual(tensor)
    return primal, None if tangent is None else tangent.detach()

"""Batch norms with frozen statistics: a number for each channel to multiply by, and one to add.

Autograd's own node keeps its input and looks through it even where only the gradient of the input is wanted; here that
is one multiplication, and nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from oba.curvature.dual_layers import Dual


@dataclass(frozen=True)
class FrozenNorm:
    """A batch norm with frozen statistics.

    Attributes:
        mean: Running mean, shape (channels,).
        variance: Running variance, shape (channels,).
        eps: What is added to the variance.
        weight: Scale, shape (channels,), or None.
        bias: Shift, shape (channels,), or None.
    """

    mean: Tensor
    variance: Tensor
    eps: float
    weight: Tensor | None
    bias: Tensor | None

    @property
    def affine(self) -> list[Tensor]:
        """Scale and shift, where there are any."""
        return [tensor for tensor in (self.weight, self.bias) if tensor is not None]

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised input."""
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, False, 0.0, self.eps)

    def scale(self, like: Tensor) -> Tensor:
        """Return what the norm multiplies each channel by, in a shape that goes with activations (N, channels, ...)."""
        scale = (self.variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight.detach()
        return scale.view(-1, *[1] * (like.dim() - 2))

    def run(self, x: Tensor) -> Tensor:
        """Normalise; scale and shift are constants."""
        return _Norm.apply(x, self)

    def run_dual(self, x: Tensor, x_dot: Tensor | None, *, moves: bool, of_parameters: bool) -> Dual:
        """Normalise a value and its tangent; scale and shift move in their own direction, or are constants."""
        leaves = (self.weight, self.bias) if moves and of_parameters else (None, None)
        return _DualNorm.apply(x, x_dot, *leaves, self, moves)


def frozen_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, FrozenNorm] | None:
    """Read a call of ``torch.nn.functional.batch_norm``: its input and norm, None if the statistics are not frozen."""
    if training or running_mean is None or running_var is None:
        return None
    return input, FrozenNorm(running_mean, running_var, eps, weight, bias)


def is_computed(tensor: Tensor) -> bool:
    """Tell whether gradients flow through a norm's scale or shift to something else: then it is no constant."""
    return tensor.grad_fn is not None


class ConstantNorms(TorchFunctionMode):
    """Take scale and shift of frozen batch norms for constants, where they are not computed from something else."""

    def __torch_function__(self, func: Any, types: Any, args: Iterable[Any] = (), kwargs: Any = None) -> Any:
        """Run one operation."""
        call = frozen_norm(*args, **(kwargs or {})) if func is F.batch_norm else None
        if call is None or not torch.is_grad_enabled() or any(map(is_computed, call[1].affine)):
            return func(*args, **(kwargs or {}))
        input, norm = call
        return norm.run(input)


class _Norm(torch.autograd.Function):
    """The node of a value."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: FrozenNorm) -> Tensor:
        ctx.norm = norm
        return norm.forward(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None]:
        (gradient,) = grad_outputs
        return gradient * ctx.norm.scale(gradient), None


class _DualNorm(torch.autograd.Function):
    """The node of a value and its tangent: a dual layer with one weight for each channel."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        x_dot: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        norm: FrozenNorm,
        moves: bool,
    ) -> Dual:
        ctx.norm, ctx.moves, ctx.of_parameters = norm, moves, weight is not None or bias is not None
        ctx.save_for_backward(*((x, x_dot) if ctx.of_parameters else (None, None)))
        y = norm.forward(x)
        if x_dot is None:
            return y, y.clone() if moves else torch.zeros_like(y)
        scale = norm.scale(x)
        return y, torch.addcmul(y, x_dot, scale) if moves else x_dot * scale

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        u, delta = grad_outputs
        norm: FrozenNorm = ctx.norm
        x, x_dot = ctx.saved_tensors
        scale = norm.scale(u)
        of_weight = of_bias = None
        if ctx.of_parameters:
            flow, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(*(
                u,
                x,
                norm.weight,
                norm.mean,
                norm.variance,
                None,
                None,
                False,
                norm.eps,
                [True, True, True],
            ))
            if x_dot is not None:
                over = [d for d in range(u.dim()) if d != 1]
                of_weight += (delta * x_dot).sum(over) * (norm.variance + norm.eps).rsqrt()
        else:
            flow = u * scale
        flow_dot = delta * scale
        if ctx.moves:
            flow += flow_dot
        needs = ctx.needs_input_grad
        return flow if needs[0] else None, flow_dot if needs[1] else None, of_weight, of_bias, None, None

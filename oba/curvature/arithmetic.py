"""Operations written as arithmetic where PyTorch's own cannot be differentiated often enough.

PyTorch's hard sigmoid has no second derivative; its batch norm refuses a third one, and its layer norm returns a wrong
one without a word (the second derivative takes the statistics for constants). The same happens a derivative earlier
where a tangent is differentiated: the tangents of norms take the statistics for constants, and those of the softmax
family cannot be differentiated. Written out, all of them can be differentiated at any order and in either way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


def _normalise(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    y = (x - mean) * (variance + eps).rsqrt()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _per_channel(tensor: Tensor | None, x: Tensor) -> Tensor | None:
    """Give a vector over channels the dimensions of a batch (N, C, ...)."""
    return None if tensor is None else tensor.view(-1, *[1] * (x.dim() - 2))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    mean, variance = _per_channel(running_mean, input), _per_channel(running_var, input)
    if training or mean is None or variance is None:
        over = [d for d in range(input.dim()) if d != 1]
        if input.numel() == input.shape[1]:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
        variance, mean = torch.var_mean(input, over, correction=0, keepdim=True)
    return _normalise(input, mean, variance, _per_channel(weight, input), _per_channel(bias, input), eps)


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    mean, variance = _per_channel(running_mean, input), _per_channel(running_var, input)
    if use_input_stats or mean is None or variance is None:
        variance, mean = torch.var_mean(input, list(range(2, input.dim())), correction=0, keepdim=True)
    return _normalise(input, mean, variance, _per_channel(weight, input), _per_channel(bias, input), eps)


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    over = list(range(-len(normalized_shape), 0))
    variance, mean = torch.var_mean(input, over, correction=0, keepdim=True)
    return _normalise(input, mean, variance, weight, bias, eps)


def _hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    return F.relu6(input + 3) / 6


def _exponentials(input: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return the input less its largest value, which is a constant that cancels, and its exponentials."""
    shifted = input - input.detach().amax(dim, keepdim=True)
    return shifted, shifted.exp()


def _softmax(input: Tensor, dim: int, dtype: torch.dtype | None = None, **_unused: Any) -> Tensor:
    _shifted, e = _exponentials(input if dtype is None else input.to(dtype), dim)
    return e / e.sum(dim, keepdim=True)


def _softmin(input: Tensor, dim: int, dtype: torch.dtype | None = None, **_unused: Any) -> Tensor:
    return _softmax(-input, dim, dtype)


def _log_softmax(input: Tensor, dim: int, dtype: torch.dtype | None = None, **_unused: Any) -> Tensor:
    shifted, e = _exponentials(input if dtype is None else input.to(dtype), dim)
    return shifted - e.sum(dim, keepdim=True).log()


def _logsumexp(input: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    largest = input.detach().amax(dim, keepdim=True)
    result = (input - largest).exp().sum(dim, keepdim=True).log() + largest
    return result if keepdim else result.squeeze(dim)


def _glu(input: Tensor, dim: int = -1) -> Tensor:
    value, gate = input.chunk(2, dim)
    return value * gate.sigmoid()


_WRITTEN_OUT: dict[Any, tuple[int, Any]] = {
    F.hardsigmoid: (1, _hardsigmoid),
    F.batch_norm: (2, _batch_norm),
    F.instance_norm: (2, _instance_norm),
    F.layer_norm: (2, _layer_norm),
}
"""Functions with the highest order at which PyTorch's own derivative holds, and the same function in arithmetic."""

_TANGENTS: dict[Any, Any] = {
    F.softmax: _softmax,
    torch.softmax: _softmax,
    Tensor.softmax: _softmax,
    F.softmin: _softmin,
    F.log_softmax: _log_softmax,
    torch.log_softmax: _log_softmax,
    Tensor.log_softmax: _log_softmax,
    torch.logsumexp: _logsumexp,
    Tensor.logsumexp: _logsumexp,
    F.glu: _glu,
}
"""Further functions whose tangent cannot be differentiated."""


class Arithmetic(TorchFunctionMode):
    """Replace functions that cannot be differentiated often enough; running statistics are not updated then."""

    def __init__(self, order: int, *, tangents: bool = False) -> None:
        """Prepare a forward pass.

        Args:
            order: Number of differentiations to come.
            tangents: Whether the first of them is by forward-mode AD.
        """
        super().__init__()
        replaced = {func: written for func, (holds, written) in _WRITTEN_OUT.items() if tangents or order > holds}
        self._replaced = replaced | (_TANGENTS if tangents else {})

    def __torch_function__(self, func: Any, types: Any, args: Iterable[Any] = (), kwargs: Any = None) -> Any:
        """Run one operation.

        Args:
            func: The function that was called.
            types: Types of its tensors; not used.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            What ``func`` returns.
        """
        return self._replaced.get(func, func)(*args, **(kwargs or {}))

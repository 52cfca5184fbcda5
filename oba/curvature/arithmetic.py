"""Operations written as arithmetic where PyTorch's own cannot be differentiated often enough.

PyTorch's hard sigmoid has no second derivative and its batch norm no third one; the third derivative of its layer norm
is silently wrong, because the second treats the statistics as constants. The same happens one derivative earlier where
a tangent is differentiated: the tangents of norms treat the statistics as constants, and those of the softmax family
cannot be differentiated. The fused kernels of attention can be differentiated only once. Written out, all of these can
be differentiated at any order and in either mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
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
    cudnn_enable: bool = True,
) -> Tensor:
    over = list(range(-len(normalized_shape), 0))
    variance, mean = torch.var_mean(input, over, correction=0, keepdim=True)
    return _normalise(input, mean, variance, weight, bias, eps)


def _reordered(norm: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a norm of ``torch.nn.functional`` with the arguments of its namesake in ``torch``."""

    def run(
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        *settings: Any,
    ) -> Tensor:
        return norm(input, running_mean, running_var, weight, bias, *settings[:-1])

    return run


def _hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    return F.relu6(input + 3) / 6


def _exponentials(input: Tensor, dim: int | None, dtype: torch.dtype | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the input less its largest value, which is a constant that cancels, its exponentials and their sum."""
    x = input if dtype is None else input.to(dtype)
    if dim is None:
        # What PyTorch takes where no dimension is named.
        dim = 0 if x.dim() in (0, 1, 3) else 1
    shifted = x - x.detach().amax(dim, keepdim=True)
    e = shifted.exp()
    return shifted, e, e.sum(dim, keepdim=True)


def _softmax(input: Tensor, dim: int | None, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    _shifted, e, total = _exponentials(input, dim, dtype)
    return e / total


def _softmin(input: Tensor, dim: int | None, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return _softmax(-input, dim, dtype)


def _log_softmax(input: Tensor, dim: int | None, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    shifted, _e, total = _exponentials(input, dim, dtype)
    return shifted - total.log()


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
    torch.batch_norm: (2, _reordered(_batch_norm)),
    torch.instance_norm: (2, _reordered(_instance_norm)),
    torch.layer_norm: (2, _layer_norm),
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

_WRONG_NAMES = (
    "det logdet slogdet solve solve_ex tensorsolve triangular_solve householder_product orgqr scatter_reduce "
    "native_batch_norm native_layer_norm"
)
_WRONG_TANGENTS: frozenset[Any] = frozenset(
    getattr(space, name)
    for name in _WRONG_NAMES.split()
    for space in (torch, Tensor, torch.linalg)
    if hasattr(space, name)
)
"""Functions whose tangent has a silently wrong derivative, and that are too rare to be written out."""


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
        self._refused = _WRONG_TANGENTS if tangents else frozenset()

    def __torch_function__(self, func: Any, types: Any, args: Iterable[Any] = (), kwargs: Any = None) -> Any:
        """Run one operation."""
        if func in self._refused:
            raise RuntimeError("its tangent cannot be differentiated")
        return self._replaced.get(func, func)(*args, **(kwargs or {}))


@contextmanager
def differentiable_attention() -> Iterator[None]:
    """Run scaled-dot-product attention as plain arithmetic: the fused kernels can be differentiated only once.

    Yields:
        Nothing.
    """
    with sdpa_kernel(SDPBackend.MATH):
        yield

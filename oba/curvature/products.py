"""Which PyTorch functions are products of activations or of weights, and which are built from such products.

Algorithm 1 of the paper differentiates products only. The tables here are keyed by the functions of PyTorch's
Python interface, whoever calls them: modules, functional code or operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_MULTILINEAR_NAMES = (
    "mul multiply __mul__ __rmul__ matmul __matmul__ mm bmm mv dot vdot vecdot inner outer ger kron cross tensordot "
    "einsum multi_dot chain_matmul"
)
_SPACES = (torch, Tensor, torch.linalg)

MULTILINEAR: frozenset[Any] = frozenset(
    getattr(space, name) for name in _MULTILINEAR_NAMES.split() for space in _SPACES if hasattr(space, name)
)
"""Functions that are linear in each of their tensors."""

LAYERS: frozenset[Any] = frozenset({
    F.linear,
    torch.conv1d,
    torch.conv2d,
    torch.conv3d,
    torch.conv_transpose1d,
    torch.conv_transpose2d,
    torch.conv_transpose3d,
    torch.convolution,
})
"""Functions of (input, weight, bias, ...) that are the product of the first two plus the third."""


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Scaled-dot-product attention as its documentation defines it."""
    if enable_gqa:
        key = key.repeat_interleave(query.size(-3) // key.size(-3), -3)
        value = value.repeat_interleave(query.size(-3) // value.size(-3), -3)
    factor = 1.0 / math.sqrt(query.size(-1)) if scale is None else scale
    logits = (query * factor) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        logits = logits.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        logits = logits + attn_mask
    return F.dropout(torch.softmax(logits, -1), dropout_p, training=dropout_p > 0) @ value


def _plus(product: Callable[[Tensor, Tensor], Tensor], scale_name: str = "alpha") -> Callable[..., Tensor]:
    """Return ``beta * input + alpha * product(a, b)`` with the keyword names of ``addmm`` and its kin."""

    def run(*args: Any, **options: Any) -> Tensor:
        beta, alpha = options.pop("beta", 1), options.pop(scale_name, 1)
        added, a, b = (*args, *options.values())
        scaled = product(a, b) * alpha
        # PyTorch ignores the input, NaN included, when beta is 0.
        return scaled + added * beta if beta else scaled

    return run


def _bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``torch.nn.functional.bilinear`` as an einsum of three factors."""
    product = torch.einsum("...i,oij,...j->...o", input1, weight, input2)
    return product if bias is None else product + bias


def _without_dispatch(function: Any) -> FunctionType:
    """Return a Python function of ``torch.nn.functional`` that runs its own body under a function mode.

    Such a function hands itself to the mode as a whole; this copy goes on to the operations that it is made of.
    """
    names = {**function.__globals__, "has_torch_function": lambda _tensors: False}
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__)


_ADDED_PRODUCTS: dict[str, Callable[..., Tensor]] = {
    "addmm": _plus(lambda a, b: torch.mm(a, b)),
    "addmv": _plus(lambda a, b: torch.mv(a, b)),
    "addr": _plus(lambda a, b: torch.outer(a, b)),
    "addbmm": _plus(lambda a, b: torch.bmm(a, b).sum(0)),
    "baddbmm": _plus(lambda a, b: torch.bmm(a, b)),
    "addcmul": _plus(lambda a, b: torch.mul(a, b), "value"),
}

COMPOSITES: dict[Any, Callable[..., Any]] = {
    F.scaled_dot_product_attention: _attention,
    F.multi_head_attention_forward: _without_dispatch(F.multi_head_attention_forward),
    F.bilinear: _bilinear,
    **{getattr(space, name): run for name, run in _ADDED_PRODUCTS.items() for space in (torch, Tensor)},
}
"""Functions made of products and frozen operations, with the same function written out."""

IN_PLACE: dict[Any, Any] = {
    getattr(Tensor, name + "_"): getattr(torch, name) for name in ("mul", "multiply", *_ADDED_PRODUCTS)
} | {Tensor.__imul__: torch.mul}
"""Methods that write a product into their first tensor, with the function that returns it instead."""

"""Counting multiply-accumulates in a forward pass: positions of layers, and products outside of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from oba.models.attention import Attention
from oba.pruning import layers
from oba.structures import OUT

_MULTIPLY = frozenset({
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "linear",
    "bilinear",
    "matmul",
    "rmatmul",
    "mm",
    "bmm",
    "mv",
    "dot",
    "vdot",
    "addmm",
    "addbmm",
    "baddbmm",
    "addmv",
    "einsum",
    "inner",
    "tensordot",
    "chain_matmul",
    "multi_dot",
    "scaled_dot_product_attention",
    "multi_head_attention_forward",
})
"""Functions that multiply and add, without underscores; only whether others than the layers' occur matters."""

_aten = torch.ops.aten
_EXTRA_FORMULAS: dict[Any, Callable[..., int]] = {
    **dict.fromkeys((_aten.mv, _aten.dot, _aten.vdot), lambda a, *_, **__: 2 * math.prod(a)),
    **dict.fromkeys((_aten.addmv, _aten.addmv_), lambda bias, matrix, *_, **__: 2 * math.prod(matrix)),
    **dict.fromkeys(
        (_aten.addmm_, _aten.addbmm, _aten.addbmm_, _aten.baddbmm_),
        lambda bias, a, b, **_: 2 * math.prod(a) * b[-1],
    ),
    _aten._trilinear: lambda a, weight, *_, **__: 2 * a[0] * math.prod(weight),
}
"""FLOPs (two per MAC) of the products that PyTorch's counter has no formula for, from their arguments' shapes."""


def positions(model: nn.Module, counted: Mapping[str, nn.Module], image: Tensor) -> tuple[dict[str, int], bool]:
    """Count the output positions of layers in one forward pass.

    Args:
        model: The net; left as found.
        counted: Its Conv, Linear and attention modules, by name.
        image: A batch of one image.

    Returns:
        Per layer the pixels or tokens of its outputs, of attention the pairs of tokens for each head of keys, summed
        over its calls (0: not called); and whether there are products outside of these layers.
    """
    found = dict.fromkeys(counted, 0)
    with _counting(model, counted, found) as calls:
        model(image)
    return found, calls.others > 0


def product_macs(model: nn.Module, image: Tensor) -> int:
    """Count the MACs of all products, inside modules and outside, with PyTorch's own counter.

    Its first use costs a second of imports, so :func:`positions` says first whether it is needed.

    Args:
        model: The net; left as found.
        image: A batch of one image.

    Returns:
        MACs of the batch.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        counter = FlopCounterMode(display=False, custom_mapping=_EXTRA_FORMULAS)
        with _evaluating(model), sdpa_kernel(SDPBackend.MATH), counter:
            model(image)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() // 2


class _Calls(TorchFunctionMode):
    """Counts calls of functions that multiply; hooks take those of Conv and Linear modules off again."""

    def __init__(self) -> None:
        super().__init__()
        self.others = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one function."""
        self.others += getattr(func, "__name__", "").strip("_") in _MULTIPLY
        return func(*args, **(kwargs or {}))


@contextmanager
def _counting(model: nn.Module, counted: Mapping[str, nn.Module], positions: dict[str, int]) -> Iterator[_Calls]:
    """Count output positions per layer, and all products, without side effects on the model."""

    def counter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _: object, output: Tensor) -> None:
            positions[name] += output.numel() // layers.axes(module)[OUT]
            calls.others -= 1

        return hook

    def pair_counter(name: str, attention: Attention) -> Callable[..., None]:
        def hook(_module: nn.Module, arguments: tuple[Any, ...], _output: Tensor) -> None:
            q, k, *_ = arguments
            positions[name] += q[..., 0].numel() // attention.num_kv_heads * k.shape[-2]
            calls.others -= 1

        return hook

    calls = _Calls()
    fast = torch.backends.mha.get_fastpath_enabled()
    hooks = [
        m.product.register_forward_hook(pair_counter(name, m))
        if isinstance(m, Attention)
        else m.register_forward_hook(counter(name))
        for name, m in counted.items()
    ]
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with _evaluating(model), calls:
            yield calls
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in hooks:
            hook.remove()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Run in eval mode without gradients, and leave every module in its own mode."""
    modes = {m: m.training for m in model.modules()}
    trained = [p for p in model.parameters() if p.requires_grad]
    try:
        # PyTorch's counter looks for the gradients of views of parameters, which have none without a graph.
        model.eval().requires_grad_(False)
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter in trained:
            parameter.requires_grad_(True)

"""Counting multiply-accumulates in a forward pass: positions of layers, and products outside of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from oba.pruning import layers
from oba.structures import OUT

_MULTIPLY = frozenset({
    "conv1d",
    "conv2d",
    "conv3d",
    "linear",
    "bilinear",
    "matmul",
    "__matmul__",
    "__rmatmul__",
    "mm",
    "bmm",
    "mv",
    "dot",
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
"""Names of the functions that multiply and add; only whether others than the layers' occur matters."""


def positions(model: nn.Module, counted: Mapping[str, nn.Module], image: Tensor) -> tuple[dict[str, int], bool]:
    """Count the output positions of layers in one forward pass.

    Args:
        model: The net; left as found.
        counted: Its Conv and Linear modules, by name.
        image: A batch of one image.

    Returns:
        Per layer the pixels or tokens of its outputs, summed over its calls (0: not called), and whether there are
        products outside of these layers.
    """
    found = dict.fromkeys(counted, 0)
    with _counting(model, counted, found) as calls:
        model(image)
    return found, calls.others > 0


def product_macs(model: nn.Module, image: Tensor) -> int:
    """Count the MACs of all products, inside modules and outside.

    Args:
        model: The net; left as found.
        image: A batch of one image.

    Returns:
        MACs of the batch.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with _evaluating(model), sdpa_kernel(SDPBackend.MATH), _Products() as products:
            model(image)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return products.macs


class _Calls(TorchFunctionMode):
    """Counts calls of functions that multiply; hooks take those of Conv and Linear modules off again."""

    def __init__(self) -> None:
        super().__init__()
        self.others = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one function."""
        self.others += getattr(func, "__name__", "") in _MULTIPLY
        return func(*args, **(kwargs or {}))


class _Products(TorchDispatchMode):
    """Adds up the MACs of all products. Its first use costs seconds of imports, hence only where there are others."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation."""
        result = func(*args, **(kwargs or {}))
        match func.overloadpacket.__name__:
            case "convolution":
                self.macs += result.numel() * args[1][0].numel()
            case "mm" | "bmm" | "mv" | "dot":
                self.macs += result.numel() * args[0].shape[-1]
            case "addmm" | "baddbmm" | "addmv" | "addbmm":
                self.macs += result.numel() * args[1].shape[-1]
        return result


@contextmanager
def _counting(model: nn.Module, counted: Mapping[str, nn.Module], positions: dict[str, int]) -> Iterator[_Calls]:
    """Count output positions per layer, and all products, without side effects on the model."""

    def counter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _: object, output: Tensor) -> None:
            positions[name] += output.numel() // layers.axes(module)[OUT]
            calls.others -= 1

        return hook

    calls = _Calls()
    fast = torch.backends.mha.get_fastpath_enabled()
    hooks = [m.register_forward_hook(counter(name)) for name, m in counted.items()]
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
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode

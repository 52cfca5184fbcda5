"""Which parameters carry a direction in Algorithm 1."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from oba.curvature.layers import layer_parameters
from oba.curvature.products import COMPOSITES, LAYERS
from oba.curvature.running_modules import Watch


class _WeightMode(TorchFunctionMode):
    """Note every parameter that is used whole, or as a view, as the weight or bias of a linear map or convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.met: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Iterable[Any] = (), kwargs: Any = None) -> Any:
        """Run one operation."""
        kwargs = kwargs or {}
        if func in LAYERS:
            self._note(*args, **kwargs)
        elif func in COMPOSITES:
            with self:
                return COMPOSITES[func](*args, **kwargs)
        return func(*args, **kwargs)

    def _note(self, _input: Tensor, weight: Tensor, bias: Tensor | None = None, *_rest: Any, **_options: Any) -> None:
        for tensor in (weight, bias):
            if tensor is not None:
                self.met.add(id(tensor if tensor._base is None else tensor._base))


def directed_parameters(model: nn.Module, inputs: Tensor) -> list[str]:
    """Return the names of the parameters that move: weights and biases of Conv, Linear and attention projections.

    These are the parameters of such modules, and those that other modules hand to functions such as
    ``torch.nn.functional.linear`` themselves, found by one forward pass.

    Args:
        model: Any model.
        inputs: A few examples, shape (N, ...).

    Returns:
        Names as in ``named_parameters()``, in its order.
    """
    with torch.no_grad(), Watch(model) as watch, watch.explain("the forward pass"), _WeightMode() as mode:
        model(inputs.clone())
    owned = set(layer_parameters(model))
    return [name for name, parameter in model.named_parameters() if name in owned or id(parameter) in mode.met]

"""Find layers whose filters may be scaled without a change of the loss (identity of batch-normalised nets).

Where the output of a Conv or Linear goes into a norm with the statistics of the batch (or of the example) and nowhere
else, the loss does not depend on the scale of a filter. Then the scores of a filter's weights and bias add up to zero,
``Σ θ ⊙ g = 0`` and ``Σ θ ⊙ Hθ = 0``, up to the norm's epsilon: the sum is noise, not a score.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from oba.curvature import Watch, parameter_layers

_STATISTICS_FLAG = {F.batch_norm: ("training", 5), F.instance_norm: ("use_input_stats", 5)}
"""Norm functions with the name and position of the argument that asks for the statistics of the input."""


class _UseMode(TorchFunctionMode):
    """Note for each marked tensor whether norms with own statistics use it, and whether anything else does."""

    def __init__(self) -> None:
        super().__init__()
        self.normed: set[int] = set()
        self.otherwise: set[int] = set()
        # Tensors are kept, so that no other gets the same id.
        self._marked: dict[int, tuple[Tensor, int]] = {}

    def mark(self, output: Any, key: int) -> None:
        """Follow a tensor on behalf of a key; anything but a tensor cannot be followed."""
        if isinstance(output, Tensor):
            self._marked[id(output)] = (output, key)
        else:
            self.otherwise.add(key)

    def used(self, argument: Any) -> Iterable[tuple[Tensor, int]]:
        """Yield the marked tensors in an argument or output, with their keys."""
        if isinstance(argument, Tensor):
            if id(argument) in self._marked:
                yield self._marked[id(argument)]
        elif isinstance(argument, (list, tuple, dict)):
            for item in argument.values() if isinstance(argument, dict) else argument:
                yield from self.used(item)

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Run one operation and note what it uses."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        for tensor, key in self.used([args, kwargs]):
            if func in _STATISTICS_FLAG and self._is_input(tensor, args, kwargs):
                name, position = _STATISTICS_FLAG[func]
                flag = kwargs.get(name, args[position] if len(args) > position else func is F.instance_norm)
                (self.normed if flag else self.otherwise).add(key)
            elif _has_tensor(result):
                self.otherwise.add(key)
        return result

    @staticmethod
    def _is_input(tensor: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        return tensor is (args[0] if args else kwargs.get("input"))


def scale_free_layers(model: nn.Module, inputs: Tensor) -> set[str]:
    """Return the Conv and Linear layers whose output goes into norms with statistics of the input, and nowhere else.

    Found by one forward pass: every use of each layer's output is noted (asking for its size is no use, being the
    model's output is one). A weight that several layers share counts as one.

    Args:
        model: The model, in the mode for scoring.
        inputs: A few examples, shape (N, ...).

    Returns:
        Names of modules.
    """
    layers = parameter_layers(model)
    mode = _UseMode()
    handles = [
        layer.register_forward_hook(lambda layer, _inputs, output: mode.mark(output, id(layer.weight)))
        for layer in dict.fromkeys(layers.values())
    ]
    try:
        with torch.no_grad(), Watch(model) as watch, watch.explain("the forward pass"), mode:
            outputs = model(inputs.clone())
    finally:
        for handle in handles:
            handle.remove()
    mode.otherwise.update(key for _, key in mode.used(outputs))
    free = mode.normed - mode.otherwise
    return {name for name, layer in layers.items() if id(layer.weight) in free}


def _has_tensor(result: Any) -> bool:
    results = result if isinstance(result, (list, tuple)) else (result,)
    return any(isinstance(r, Tensor) for r in results)

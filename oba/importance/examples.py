r"""Derivatives with respect to masks that each example has of its own.

With :math:`m_{nc}` the mask of structure c on example n, one at the current point, the derivative of any function f of
the outputs is, at every layer that consumes the structure,

.. math:: \frac{\partial f}{\partial m_{nc}} = \Big\langle \frac{\partial f}{\partial X_{nc}}, X_{nc} \Big\rangle,

a product of two tensors that a backward pass to the activations makes anyway. No mask is multiplied, and no gradient of
a weight is computed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from oba.curvature import ConstantNorms, Watch
from oba.curvature.example_rows import knowing_rows, rows_each
from oba.importance.masks import Consumer, Places, at_inputs, channel_dimension


class ExampleMasks:
    """A forward pass of which derivatives with respect to the masks of single examples can be asked for."""

    def __init__(self, model: nn.Module, places: Places, inputs: Tensor) -> None:
        """Run the model.

        Args:
            model: The model, in the mode for scoring.
            places: Where the masks of S structures act.
            inputs: One batch, shape (N, ...).

        Raises:
            ScoreError: If the forward pass fails.
            MixedExamplesError: If it cannot be told which rows of a layer's input belong to one example.
        """
        self._model, self._examples = model, inputs.shape[0]
        starts, total = {}, 0
        for group, size in places.sizes.items():
            starts[group], total = total, total + size
        self._shape = (self._examples, total)
        self._parts: dict[str, list[tuple[int, Consumer]]] = defaultdict(list)
        for consumer in places.consumers:
            self._parts[consumer.layer].append((starts[consumer.group], consumer))
        self._anchor = inputs.new_zeros(()).requires_grad_()
        self._sums = inputs.new_zeros(self._shape)

        def run(side_by_side: Collection[str]) -> tuple[Any, Watch]:
            watch = Watch(model)
            taps = {name: self._tap(name, side_by_side) for name in self._parts}
            with at_inputs(model, taps), watch, watch.explain("the forward pass"), ConstantNorms():
                return model(inputs.clone()), watch

        self.outputs, self._watch = knowing_rows(model, inputs, self._parts, run)

    def derivative(self, value: Tensor, *, last: bool = False) -> Tensor:
        """Differentiate a function of the outputs.

        Args:
            value: A scalar.
            last: Whether the graph may be freed.

        Returns:
            Its derivatives, shape (N, S).
        """
        self._sums = torch.zeros_like(self._sums)
        if value.requires_grad:
            with self._watch.explain("the derivative"):
                torch.autograd.grad(value, self._anchor, retain_graph=not last, allow_unused=True)
        return self._sums

    def _tap(self, layer: str, side_by_side: Collection[str]) -> Callable[[Tensor], Tensor]:
        module = self._model.get_submodule(layer)

        def tap(x: Tensor) -> Tensor:
            each = rows_each(layer, x.shape[0], self._examples, side_by_side)
            kept = channel_dimension(module) % x.dim()
            over = [d for d in range(1, x.dim()) if d != kept]

            def record(gradient: Tensor, value: Tensor) -> None:
                products = gradient * value
                sums = (products.sum(over) if over else products).unflatten(0, (-1, each)).sum(1)
                for start, consumer in self._parts[layer]:
                    columns = slice(start, start + len(consumer.indices))
                    self._sums[:, columns] += sums[:, consumer.indices].sum(-1)

            return _Tap.apply(x, self._anchor, record)

        return tap


class _Tap(torch.autograd.Function):
    """Let a value through; show its gradient on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, record: Callable[[Tensor, Tensor], None]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.record = record
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        (gradient,) = grad_outputs
        (x,) = ctx.saved_tensors
        ctx.record(gradient, x)
        return gradient, gradient.new_zeros(()), None

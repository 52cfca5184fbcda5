"""One pass each way, with a look at every call of some layers: its input, its output and the output's derivative."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from oba.curvature.frozen_norms import ConstantNorms
from oba.curvature.passes import Loss
from oba.curvature.running_modules import Watch

Called = Callable[[str, Tensor, Tensor], Callable[[Tensor], None]]
"""Takes a layer's name, input and output when it is called; returns what takes the derivative of the output."""


def differentiate_outputs(
    model: nn.Module, inputs: Tensor, loss: Loss, layers: Collection[str], called: Called
) -> None:
    """Run the model, and differentiate the loss with respect to the outputs of layers, but to no parameter.

    What is taken may be overwritten in place later on: the output by an activation, and the input of a frozen layer. A
    call that the loss does not depend on gets no derivative.

    Args:
        model: The model, in the mode in which it is to be run.
        inputs: One batch, shape (N, ...).
        loss: Maps the model's outputs to a scalar.
        layers: Names of modules.
        called: Looks at a call.

    Raises:
        ScoreError: If one of the passes fails.
    """
    leaf = inputs.detach().requires_grad_()
    watch = Watch(model)
    with ExitStack() as hooks:
        for name in layers:
            # The first of the hooks, so that the output is the layer's own.
            hooks.callback(model.get_submodule(name).register_forward_hook(_look(name, called), prepend=True).remove)
        with watch, watch.explain("the forward pass"), ConstantNorms():
            # A copy, because the model may work in place.
            outputs = model(leaf.clone())
    value = loss(outputs)
    if value.requires_grad:
        with watch.explain("the derivative"):
            torch.autograd.grad(value, leaf, allow_unused=True)


def _look(name: str, called: Called) -> Callable[..., None]:
    def hook(_layer: nn.Module, arguments: tuple[Any, ...], y: Tensor) -> None:
        with torch.no_grad():
            take = called(name, arguments[0], y)
        if y.requires_grad:
            y.register_hook(take)

    return hook

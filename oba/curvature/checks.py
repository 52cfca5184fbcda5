"""Checks that a model and its loss can be differentiated, and that no operation or use of a parameter goes unseen."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from oba.curvature.layers import PARAMETER_LAYERS
from oba.errors import ScoreError


def check_transparent(model: nn.Module) -> None:
    """Raise if a module is compiled, carries backward hooks or computes its weight: no function mode sees inside."""
    for name, module in model.named_modules():
        where = f"module {name!r} ({type(module).__name__})" if name else f"the model ({type(module).__name__})"
        compiled = hasattr(module, "_orig_mod") or module._compiled_call_impl is not None
        if compiled or isinstance(module, torch.jit.ScriptModule):
            raise ScoreError(f"{where} is compiled, so its products cannot be seen; score the module it was made from")
        if module._backward_hooks or module._backward_pre_hooks:
            raise ScoreError(f"{where} carries backward hooks, which have no forward derivative; remove them to score")
        if isinstance(module, PARAMETER_LAYERS) and "weight" not in module._parameters:
            raise ScoreError(f"{where} computes its weight from other parameters; make the weight permanent to score")


def check_attached(loss: Tensor) -> None:
    """Raise if the loss does not depend on the parameters."""
    if not loss.requires_grad:
        raise ScoreError("the loss does not depend on any trainable parameter")


def check_visible(names: Iterable[str], gradients: Iterable[Tensor | None]) -> None:
    """Raise if a gradient reaches a replaced parameter itself: some use of it was not seen by the function mode."""
    for name, gradient in zip(names, gradients, strict=True):
        if gradient is not None:
            raise ScoreError(f"parameter {name!r} is used out of sight, for example by a custom autograd.Function")


def check_differentiable(form: Tensor) -> None:
    """Raise if a derivative depends on a custom ``autograd.Function`` that is marked as once differentiable.

    PyTorch puts a node into the graph there that raises when run, but that leads nowhere: a gradient with respect to
    the parameters would skip it, and be silently too small.

    Args:
        form: What is to be differentiated, itself a derivative.

    Raises:
        ScoreError: If there is such a node.
    """
    waiting, seen = [form.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if type(node).__name__ == "Error":
            raise ScoreError("an operation can be differentiated only once (a once_differentiable autograd.Function)")
        seen.add(node)
        waiting.extend(following for following, _ in node.next_functions)

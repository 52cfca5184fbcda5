"""What the quick ways of differentiation must be able to see: every operation and every use of a parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from oba.curvature.units import PARAMETER_LAYERS
from oba.errors import ScoreError


def require_transparent(model: nn.Module) -> None:
    """Refuse modules into which a function mode or forward-mode AD cannot look.

    Args:
        model: The network.

    Raises:
        ScoreError: If a module is compiled, carries backward hooks or computes its weight.
    """
    for name, module in model.named_modules():
        where = f"module {name!r} ({type(module).__name__})" if name else f"the model ({type(module).__name__})"
        compiled = hasattr(module, "_orig_mod") or module._compiled_call_impl is not None
        if compiled or isinstance(module, torch.jit.ScriptModule):
            raise ScoreError(f"{where} is compiled, so its products cannot be seen; score the module it was made from")
        if module._backward_hooks or module._backward_pre_hooks:
            raise ScoreError(f"{where} carries backward hooks, which have no forward derivative; remove them to score")
        if isinstance(module, PARAMETER_LAYERS) and "weight" not in module._parameters:
            raise ScoreError(f"{where} computes its weight from other parameters; make the weight permanent to score")


def require_attached(value: Tensor) -> None:
    """Refuse a loss that nothing can be differentiated of.

    Args:
        value: The loss.

    Raises:
        ScoreError: If it is a constant.
    """
    if not value.requires_grad:
        raise ScoreError("the loss does not depend on any trainable parameter")


def require_visible(moving: Mapping[str, nn.Parameter], gradients: Iterable[Tensor | None]) -> None:
    """Refuse a parameter that a gradient reaches itself: an operation that the function mode did not see uses it.

    Every use that was seen has a leaf in the parameter's place.

    Args:
        moving: The parameters, by name.
        gradients: What reaches each of them.

    Raises:
        ScoreError: If a gradient reaches one.
    """
    for name, gradient in zip(moving, gradients, strict=True):
        if gradient is not None:
            raise ScoreError(f"parameter {name!r} is used out of sight, for example by a custom autograd.Function")

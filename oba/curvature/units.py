"""Which modules count as one frozen unit, and which parameters carry a direction."""

from __future__ import annotations

import re

from torch import nn
from torch.nn.modules.conv import _ConvNd

PARAMETER_LAYERS = (_ConvNd, nn.Linear)
"""Layers that multiply their input by a weight: the factors that Algorithm 1 differentiates."""

_FAMILIES = {
    "torch.nn.modules.activation",
    "torch.nn.modules.batchnorm",
    "torch.nn.modules.instancenorm",
    "torch.nn.modules.normalization",
    "torch.nn.modules.pooling",
}
_UNIT_NAME = re.compile(
    r"Norm|Pool|Activation|Act(?![a-z])|Swish|Mish|Sigmoid|Tanh|Softmax|Softmin|Softplus|Softsign|Softshrink"
    r"|ReLU|Relu|GELU|Gelu|SELU|Selu|CELU|Celu|ELU|Elu|SiLU|Silu|GLU|Glu"
)
_ATTENTION_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias")


def is_unit(module: nn.Module) -> bool:
    """Tell whether a module is an activation, norm, softmax or pooling: one operation, however it is written inside.

    PyTorch's own families and their subclasses are; so is any other module whose class is named like one
    (``HardSwish``, ``LayerNorm2d``). A module that owns a Conv, a Linear or an attention never is.

    Args:
        module: Any module.

    Returns:
        True for a frozen unit.
    """
    if any(isinstance(inner, (*PARAMETER_LAYERS, nn.MultiheadAttention)) for inner in module.modules()):
        return False
    family = any(cls.__module__ in _FAMILIES for cls in type(module).__mro__)
    return family or bool(_UNIT_NAME.search(type(module).__name__))


def parameter_layers(model: nn.Module) -> dict[str, _ConvNd | nn.Linear]:
    """Return a model's Conv and Linear layers.

    Args:
        model: Any model.

    Returns:
        The layers under all their names, in order.
    """
    modules = model.named_modules(remove_duplicate=False)
    return {name: module for name, module in modules if isinstance(module, PARAMETER_LAYERS)}


def layer_parameters(model: nn.Module) -> list[str]:
    """Return the names of the weights and biases of all Conv and Linear layers and attention projections.

    Args:
        model: Any model.

    Returns:
        Names as in ``named_parameters()``, in its order; a shared parameter is named once.
    """
    owned: set[int] = set()
    for module in model.modules():
        if isinstance(module, PARAMETER_LAYERS):
            names: tuple[str, ...] = ("weight", "bias")
        elif isinstance(module, nn.MultiheadAttention):
            names = _ATTENTION_PROJECTIONS
        else:
            continue
        owned.update(id(parameter) for name, parameter in module.named_parameters(recurse=False) if name in names)
    return [name for name, parameter in model.named_parameters() if id(parameter) in owned]

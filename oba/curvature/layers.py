"""The layers that multiply their input by a weight, and their parameters."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.conv import _ConvNd

PARAMETER_LAYERS = (_ConvNd, nn.Linear)
"""Layers that multiply their input by a weight: the factors that Algorithm 1 differentiates."""

_ATTENTION_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias")


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

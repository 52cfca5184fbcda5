"""Which modules count as one frozen unit: a single operation whose Jacobian Algorithm 1 holds constant."""

from __future__ import annotations

import re

from torch import nn

from oba.curvature.layers import PARAMETER_LAYERS

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


def is_unit(module: nn.Module) -> bool:
    """Tell whether a module is an activation, norm, softmax or pooling: one operation, however it is written inside.

    Units are PyTorch's own families and their subclasses, and any other module whose class is named like one
    (``HardSwish``, ``LayerNorm2d``). A module that owns a Conv, a Linear or an attention is never a unit.

    Args:
        module: Any module.

    Returns:
        True for a frozen unit.
    """
    if any(isinstance(inner, (*PARAMETER_LAYERS, nn.MultiheadAttention)) for inner in module.modules()):
        return False
    family = any(cls.__module__ in _FAMILIES for cls in type(module).__mro__)
    return family or bool(_UNIT_NAME.search(type(module).__name__))

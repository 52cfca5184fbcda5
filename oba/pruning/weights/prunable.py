"""Which single weights may go, and how many are left."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from oba.curvature import layer_parameters
from oba.errors import ModelError
from oba.models.weight_masks import Masks
from oba.pruning.ignored import ignored_names
from oba.records import Weights


def prunable_weights(model: nn.Module, ignore: Iterable[str] = ()) -> dict[str, nn.Parameter]:
    """Return the weights of Conv, Linear and attention layers; biases, norms and other bare parameters stay.

    Args:
        model: The net.
        ignore: Names of modules or parameters, or patterns such as ``layer3.*``, that stay whole with all inside them.

    Returns:
        The weights by name, in the order of ``named_parameters()``; a shared weight is named once.

    Raises:
        ConfigError: If a pattern matches nothing.
        ModelError: If no weight is left.
    """
    ignored = ignored_names(model, ignore)
    found = {name: model.get_parameter(name) for name in layer_parameters(model)}
    prunable = {name: weight for name, weight in found.items() if weight.dim() > 1 and name not in ignored}
    if not prunable:
        raise ModelError(
            f"{type(model).__name__} has no weight that may go; allowed: Conv, Linear and attention layers that "
            "structures.ignore does not name"
        )
    return prunable


def whole_masks(model: nn.Module, ignore: Iterable[str] = ()) -> dict[str, Tensor]:
    """Return the masks of a net of which no weight has gone.

    Args:
        model: The net.
        ignore: What stays whole, as in :func:`prunable_weights`.

    Returns:
        A mask for each prunable weight, on its device.
    """
    return {name: torch.ones_like(w, dtype=torch.bool) for name, w in prunable_weights(model, ignore).items()}


def count_weights(masks: Masks) -> Weights:
    """Return how many weights masks keep.

    Args:
        masks: What is kept.

    Returns:
        Numbers by the weight's name, and the fraction that is kept.
    """
    left = {name: int(kept.sum()) for name, kept in masks.items()}
    dense = {name: kept.numel() for name, kept in masks.items()}
    return Weights(kept=left, dense=dense, fraction=sum(left.values()) / sum(dense.values()))

"""From a name to a net."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from oba.errors import ModelError
from oba.models.attention import open_attention
from oba.models.names import check_name
from oba.models.parse import family


def build_model(
    name: str, *, num_classes: int, input_size: tuple[int, int, int], pretrained: bool = False
) -> nn.Module:
    """Build a net on the CPU, in train mode; random weights come from torch's global random state.

    Args:
        name: A name that :func:`oba.models.names.check_name` accepts; any other is a ``ConfigError``.
        num_classes: Classes.
        input_size: Channels, height and width of the images.
        pretrained: Whether to take the library's weights, which are downloaded once.

    Returns:
        A net from (images, C, H, W) to logits (images, classes), in which no activation works in place and attention
        can be cut (:func:`~oba.models.attention.open_attention`).

    Raises:
        ModelError: If the net cannot be built for such images, or there are no weights for it.
    """
    check_name(name, "model")
    build = importlib.import_module(f"oba.models.families.{family(name)}").build
    size = "x".join(map(str, input_size))
    try:
        model = build(name, num_classes=num_classes, input_size=input_size, pretrained=pretrained)
        model = open_attention(model)
        _work_out_of_place(model)
        found = _output_size(model, input_size)
    except ModelError:
        raise
    except Exception as error:  # whatever a library raises: it was asked for the impossible, or is offline
        weights = " with pretrained weights" if pretrained else ""
        raise ModelError(f"{name}: cannot be built{weights} for images of {size} ({_one_line(error)})") from error
    if found != (1, num_classes):
        raise ModelError(f"{name}: gives outputs of shape {found} for one image of {size}, not (1, {num_classes})")
    return model


def _work_out_of_place(model: nn.Module) -> None:
    """Keep activations from overwriting tensors that hooks and forward-mode differentiation still need."""
    module: Any
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False


def _output_size(model: nn.Module, input_size: tuple[int, int, int]) -> tuple[int, ...]:
    """Classify one black image."""
    model.eval()
    with torch.no_grad():
        logits = model(torch.zeros(1, *input_size))
    model.train()
    return tuple(logits.shape)


def _one_line(error: Exception) -> str:
    """Return the error's kind and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

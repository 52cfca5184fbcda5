"""From a name to a net."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from oba.errors import ModelError, ObaError
from oba.models.attention import open_attention
from oba.models.names import check_name
from oba.models.parse import family


def build_model(name: str, *, num_classes: int, input_size: tuple[int, int, int]) -> nn.Module:
    """Build a net on the CPU, in train mode; random weights come from torch's global random state.

    Args:
        name: A name that :func:`oba.models.names.check_name` accepts; any other is a ``ConfigError``.
        num_classes: Classes.
        input_size: Channels, height and width of the images.

    Returns:
        A net from (images, C, H, W) to logits (images, classes), in which no activation works in place and attention
        can be cut (:func:`~oba.models.attention.open_attention`); a ``ModelError`` if it cannot be built for such
        images.
    """
    check_name(name, "model")
    build = family_module(name).build
    return prepared(name, lambda: build(name, num_classes=num_classes, input_size=input_size), num_classes, input_size)


def classifier_of(name: str, model: nn.Module) -> tuple[str, ...]:
    """Return the names of the layers of a net that tell the classes apart.

    Args:
        name: The net's name.
        model: The net, as :func:`build_model` returned it.

    Returns:
        Module names; none where its library does not say.
    """
    return family_module(name).classifier(model)


def family_module(name: str) -> Any:
    """Return the module of :mod:`oba.models.families` that builds a net."""
    return importlib.import_module(f"oba.models.families.{family(name)}")


def prepared(name: str, make: Callable[[], nn.Module], num_classes: int, input_size: tuple[int, int, int]) -> nn.Module:
    """Make a net fit for pruning, and see that it classifies such images.

    Args:
        name: The net's name, for messages.
        make: Builds it.
        num_classes: Classes.
        input_size: Channels, height and width of the images.

    Returns:
        The net, in train mode.

    Raises:
        ModelError: If it cannot be built for such images.
    """
    size = "x".join(map(str, input_size))
    try:
        model = open_attention(make())
        _work_out_of_place(model)
        found = _output_size(model, input_size)
    except Exception as error:  # whatever a library raises: it was asked for the impossible
        if isinstance(error, ObaError):
            raise
        raise ModelError(f"{name}: cannot be built for images of {size} ({one_line(error)})") from error
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


def one_line(error: Exception) -> str:
    """Return the error's kind and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

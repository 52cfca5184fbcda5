"""Nets of torchvision, shaped for the images at hand."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

AUXILIARY = ("googlenet", "inception_v3")
"""Nets with auxiliary classifiers, which are left out."""
_CLASSIFIERS = ("fc", "classifier", "head", "heads")


def build(
    name: str,
    *,
    num_classes: int,
    input_size: tuple[int, int, int],
    tag: str | None = None,
    replace_head: bool = False,
    dropout: float | None = None,
    stochastic_depth: float | None = None,
) -> nn.Module:
    """Build one of torchvision's nets and exchange the classifier and the first convolution where they do not fit.

    Args:
        name: ``torchvision/`` and torchvision's name.
        num_classes: Classes.
        input_size: Channels, height and width of the images.
        tag: Of the pretrained weights to load; without it weights are random.
        replace_head: Whether the classifier is random whatever was loaded.
        dropout: Rate of dropout; the library's if not given.
        stochastic_depth: Rate at which the last block is skipped; the library's if not given.

    Returns:
        The net.
    """
    from torchvision import models

    name = name.removeprefix("torchvision/")
    rates = {"dropout": dropout, "stochastic_depth_prob": stochastic_depth}
    settings = _settings(name, input_size, tag) | {key: rate for key, rate in rates.items() if rate is not None}
    model: Any = models.get_model(name, weights=tag, **settings)
    if name in AUXILIARY:
        model.aux_logits = False
    if hasattr(model, "AuxLogits"):
        model.AuxLogits = None
    _fit_classes(model, num_classes, replace_head)
    _fit_channels(model, input_size[0])
    return model


def classifier(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the layers that tell the classes apart.

    Args:
        model: A net of torchvision.

    Returns:
        The last layer, linear or (squeezenet) convolutional.
    """
    root = next(name for name in _CLASSIFIERS if hasattr(model, name))
    layers = [
        f"{root}.{path}".rstrip(".")
        for path, module in model.get_submodule(root).named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    return (layers[-1],)


def _settings(name: str, input_size: tuple[int, int, int], tag: str | None) -> dict[str, Any]:
    """Return the arguments that this net needs besides its weights."""
    if name in AUXILIARY:  # with auxiliary classifiers they return tuples while training; published weights have them
        return {"transform_input": False} if tag else {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        return {"image_size": input_size[1]}
    if name.startswith("maxvit_"):
        return {"input_size": input_size[1:]}
    return {}


def _fit_classes(model: nn.Module, num_classes: int, replace: bool) -> None:
    """Exchange the classifier if it has another number of outputs, or is to be replaced."""
    [name] = classifier(model)
    last: Any = model.get_submodule(name)
    if isinstance(last, nn.Linear) and (replace or last.out_features != num_classes):
        model.set_submodule(name, nn.Linear(last.in_features, num_classes))
    if isinstance(last, nn.Conv2d) and (replace or last.out_channels != num_classes):
        model.set_submodule(name, nn.Conv2d(last.in_channels, num_classes, last.kernel_size[0]))


def _fit_channels(model: nn.Module, channels: int) -> None:
    """Give the first convolution another number of inputs: each gets the mean filter, scaled to the same sum."""
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    if first.in_channels == channels:
        return
    weight: Tensor = first.weight.detach()
    first.in_channels = channels
    mean = weight.mean(dim=1, keepdim=True) * (weight.shape[1] / channels)
    first.weight = nn.Parameter(mean.repeat(1, channels, 1, 1))

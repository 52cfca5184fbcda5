"""Nets of timm, shaped for the images at hand."""

from __future__ import annotations

from typing import Any

from torch import nn


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
    """Build one of timm's nets; timm adapts the stem's channels, the classifier and position embeddings itself.

    Args:
        name: ``timm/`` and timm's name, perhaps with a tag of pretrained weights.
        num_classes: Classes.
        input_size: Channels, height and width of the images.
        tag: Of the pretrained weights to load; without it weights are random.
        replace_head: Whether the classifier is random whatever was loaded.
        dropout: Rate of dropout before the classifier; the library's if not given.
        stochastic_depth: Rate at which the last block is skipped; the library's if not given.

    Returns:
        The net.

    Raises:
        TypeError: If timm refuses an argument other than the image size.
    """
    import timm

    name = name.removeprefix("timm/")
    if tag is not None:
        name = f"{name.partition('.')[0]}.{tag}"
    channels, *image_size = input_size
    settings: dict[str, Any] = {"pretrained": tag is not None, "num_classes": num_classes, "in_chans": channels}
    rates = {"drop_rate": dropout, "drop_path_rate": stochastic_depth}
    settings |= {key: rate for key, rate in rates.items() if rate is not None}
    try:
        model: Any = timm.create_model(name, img_size=tuple(image_size), **settings)
    except TypeError as error:  # convolutional nets take images of any size, and no such argument
        if "img_size" not in str(error):
            raise
        model = timm.create_model(name, **settings)
    if replace_head:
        model.reset_classifier(num_classes)
    return model


def classifier(model: Any) -> tuple[str, ...]:
    """Return the names of the layers that tell the classes apart.

    Args:
        model: A net of timm.

    Returns:
        What timm says of it; of distilled nets there are two.
    """
    named = model.pretrained_cfg.get("classifier") or ()
    return (named,) if isinstance(named, str) else tuple(named)

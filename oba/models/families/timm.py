"""Nets of timm, shaped for the images at hand."""

from __future__ import annotations

from typing import Any

from torch import nn


def build(name: str, *, num_classes: int, input_size: tuple[int, int, int], pretrained: bool) -> nn.Module:
    """Build one of timm's nets; timm adapts the stem's channels, the classifier and position embeddings itself.

    Args:
        name: ``timm/`` and timm's name, perhaps with a tag of pretrained weights.
        num_classes: Classes.
        input_size: Channels, height and width of the images.
        pretrained: Whether to download weights.

    Returns:
        The net.

    Raises:
        TypeError: If timm refuses an argument other than the image size.
    """
    import timm

    name = name.removeprefix("timm/")
    channels, *image_size = input_size
    settings: dict[str, Any] = {"pretrained": pretrained, "num_classes": num_classes, "in_chans": channels}
    try:
        return timm.create_model(name, img_size=tuple(image_size), **settings)
    except TypeError as error:  # convolutional nets take images of any size, and no such argument
        if "img_size" not in str(error):
            raise
    return timm.create_model(name, **settings)

"""Decoding of single images with PIL: colour, resizing, cropping."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from oba.errors import DataError

_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV")


def decode(content: bytes, draft: tuple[int, int] | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """Decode a whole image file, so that damage anywhere in it shows.

    Args:
        content: The bytes of the file.
        draft: (height, width) down to which a JPEG may be decoded at reduced scale, which is faster.

    Returns:
        The image in its own mode, and its full (height, width).

    Raises:
        DataError: If it cannot be decoded, or has more than 8 bits per channel; one line, without a file's name.
    """
    try:
        image = Image.open(io.BytesIO(content))
        size = image.height, image.width
        if draft is not None:
            image.draft(None, (draft[1], draft[0]))
        image.load()
    except UnidentifiedImageError as error:
        raise DataError("not an image" if content else "empty file") from error
    except Exception as error:  # PIL reports damage as OSError, SyntaxError, ValueError, struct.error and more
        raise DataError(" ".join(str(error).split()) or type(error).__name__) from error
    if image.mode not in _EIGHT_BIT:
        raise DataError(f"mode {image.mode}, but only images of 8 bits per channel are read")
    return image, size


def with_channels(image: Image.Image, channels: int) -> Image.Image:
    """Convert an image of any 8-bit mode to grey (one channel) or RGB (three); transparency is dropped."""
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("L" if channels == 1 else "RGB")


def fit(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resize an image until it just covers a size (bilinear, with antialiasing), and cut the centre out."""
    if image.size == (width, height):
        return image
    if image.height * width < image.width * height:
        covering = (max(width, int(height * image.width / image.height)), height)
    else:
        covering = (width, max(height, int(width * image.height / image.width)))
    image = image.resize(covering, Image.Resampling.BILINEAR)
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))


def crop_and_resize(image: Image.Image, box: Sequence[int], height: int, width: int) -> Image.Image:
    """Cut the box (top, left, height, width) out of an image and resize it, bilinearly with antialiasing."""
    top, left, rows, columns = (int(value) for value in box)
    cut = image.crop((left, top, left + columns, top + rows))
    return cut.resize((width, height), Image.Resampling.BILINEAR)


def to_array(image: Image.Image) -> np.ndarray:
    """Return the pixels of an image in mode ``L`` or ``RGB``: (H, W, C) uint8, writable."""
    pixels = np.array(image, dtype=np.uint8)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels

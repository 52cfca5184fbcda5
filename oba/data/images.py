"""Decoding of single images with PIL: colour, resizing, cropping."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from oba.errors import DataError

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
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


def fit(image: Image.Image, height: int, width: int, fraction: float = 1.0, resample: str = "bilinear") -> Image.Image:
    """Resize an image until it just covers a size (with antialiasing), and cut the centre out.

    Args:
        image: The image.
        height: Of what is cut out, in pixels.
        width: Of what is cut out, in pixels.
        fraction: What the cut leaves of the edge that just covers the size; 0.875 resizes to 256 and cuts 224.
        resample: ``bilinear`` or ``bicubic``.

    Returns:
        The centre.
    """
    if image.size == (width, height) and fraction == 1:
        return image
    rows, columns = int(height / fraction), int(width / fraction)
    if image.height * columns < image.width * rows:
        covering = (max(columns, int(rows * image.width / image.height)), rows)
    else:
        covering = (columns, max(rows, int(columns * image.height / image.width)))
    image = image.resize(covering, RESAMPLING[resample])
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))


def crop_and_resize(
    image: Image.Image, box: Sequence[int], height: int, width: int, resample: str = "bilinear"
) -> Image.Image:
    """Cut the box (top, left, height, width) out of an image and resize it with antialiasing."""
    top, left, rows, columns = (int(value) for value in box)
    return image.crop((left, top, left + columns, top + rows)).resize((width, height), RESAMPLING[resample])


def to_array(image: Image.Image) -> np.ndarray:
    """Return the pixels of an image in mode ``L`` or ``RGB``: (H, W, C) uint8, writable."""
    pixels = np.array(image, dtype=np.uint8)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels

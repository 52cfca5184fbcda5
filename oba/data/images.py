"""Decoding of single images with PIL: colour, resizing, cropping."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from oba.errors import DataError

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
MOST_PIXELS = 89_478_485
"""Pixels of the largest image that is decoded: from there on, Pillow warns of images that are made to fill memory."""
_TOO_LARGE = f"more than {MOST_PIXELS:,} pixels, the most that are decoded; scale it down"
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
"""What a file may be, whatever its name: none of Pillow's formats that run other programs."""
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV")


def open_image(stream: BinaryIO) -> Image.Image:
    """Read the header of an image; pixels are decoded when they are asked for.

    Args:
        stream: The file.

    Returns:
        The image, with its mode and size.

    Raises:
        DataError: If it is no image of a format that is read, or too large; one line, without a file's name.
    """
    try:
        image = Image.open(stream, formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise DataError("not an image" if stream.seek(0, io.SEEK_END) else "empty file") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(_TOO_LARGE) from error
    except Exception as error:  # PIL reports damage as OSError, SyntaxError, ValueError, struct.error and more
        raise DataError(_line(error)) from error
    if image.width * image.height > MOST_PIXELS:
        raise DataError(_TOO_LARGE)
    return image


def decode(content: bytes, draft: tuple[int, int] | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """Decode a whole image file, so that damage anywhere in it shows.

    Args:
        content: The bytes of the file.
        draft: (height, width) down to which a JPEG may be decoded at reduced scale, which is faster.

    Returns:
        The image in its own mode, and its full (height, width); a ``DataError`` as of :func:`open_image` and
        :func:`load`.
    """
    image = open_image(io.BytesIO(content))
    size = image.height, image.width
    if draft is not None:
        image.draft(None, (draft[1], draft[0]))
    return load(image), size


def load(image: Image.Image) -> Image.Image:
    """Decode the pixels of an image.

    Args:
        image: As :func:`open_image` returned it.

    Returns:
        The same.

    Raises:
        DataError: If it cannot be decoded, or has more than 8 bits per channel; one line, without a file's name.
    """
    try:
        image.load()
    except Exception as error:
        raise DataError(_line(error)) from error
    if image.mode not in _EIGHT_BIT:
        raise DataError(f"mode {image.mode}, but only images of 8 bits per channel are read")
    return image


def decoded_pixels(image: Image.Image, shape: tuple[int, int]) -> int:
    """Return how many pixels decoding holds in memory.

    Args:
        image: As :func:`open_image` returned it, perhaps with a draft that makes it smaller.
        shape: Its full (height, width): a progressive JPEG is held whole, whatever its scale.

    Returns:
        The number.
    """
    return shape[0] * shape[1] if image.info.get("progressive") else image.width * image.height


@contextmanager
def bombs_refused() -> Iterator[None]:
    """Let PIL refuse images that are too large in the place of a warning: around threads, not in them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


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

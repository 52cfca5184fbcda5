"""Decoding single images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import functional

from oba.data.images import crop_and_resize, decode, fit, to_array, with_channels
from oba.errors import DataError


def encode(image: Image.Image, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_decode_gives_pixels_and_size() -> None:
    image = noise(5, 9)
    decoded, size = decode(encode(image))
    assert size == (5, 9)
    assert np.array_equal(to_array(decoded), np.asarray(image))


def test_draft_is_smaller_but_tells_the_full_size() -> None:
    decoded, size = decode(encode(noise(400, 480), "JPEG"), draft=(64, 64))
    assert size == (400, 480)
    assert 64 <= decoded.height < 400


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("draft", [None, (8, 8)])
def test_truncated_file(form: str, draft: tuple[int, int] | None) -> None:
    content = encode(noise(64, 64), form)
    with pytest.raises(DataError, match=r"truncated|broken"):
        decode(content[: len(content) // 2], draft)


def test_damaged_png_checksum() -> None:
    content = bytearray(encode(noise(8, 8)))
    content[20] ^= 1  # the header's width
    with pytest.raises(DataError) as caught:
        decode(bytes(content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "message"), [(b"", "empty file"), (b"<html>", "not an image")])
def test_no_image(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}$"):
        decode(content)


def test_more_than_eight_bits() -> None:
    deep = Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16))
    with pytest.raises(DataError, match="8 bits per channel"):
        decode(encode(deep))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_modes_become_grey_or_colour(mode: str) -> None:
    image = noise(6, 6).convert(mode)
    assert to_array(with_channels(image, 3)).shape == (6, 6, 3)
    assert to_array(with_channels(image, 1)).shape == (6, 6, 1)


def test_palette_with_transparency_keeps_its_colours() -> None:
    image = noise(6, 6).quantize(8)
    content = io.BytesIO()
    image.save(content, "PNG", transparency=bytes(range(8)))
    decoded, _ = decode(content.getvalue())
    assert np.array_equal(to_array(with_channels(decoded, 3)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("size", [(20, 31), (31, 20), (16, 16), (8, 8), (10, 7), (100, 33)])
def test_fit_is_torchvisions_resize_and_centre_crop(size: tuple[int, int]) -> None:
    image = noise(*size)
    expected = functional.center_crop(functional.resize(image, [16]), [16, 16])
    assert np.array_equal(to_array(fit(image, 16, 16)), np.asarray(expected))


@pytest.mark.parametrize("size", [(20, 31), (31, 20), (16, 16), (100, 33), (300, 400)])
@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_fit_to_a_fraction_is_timms(size: tuple[int, int], resample: str) -> None:
    image = noise(*size)
    transform = create_transform(56, crop_pct=0.875, interpolation=resample, normalize=False)
    assert np.array_equal(to_array(fit(image, 56, 56, 0.875, resample)), transform(image).numpy().transpose(1, 2, 0))


def test_a_fraction_cuts_the_centre_of_an_image_of_the_right_size() -> None:
    assert not np.array_equal(to_array(fit(noise(16, 16), 16, 16, 0.5)), to_array(noise(16, 16)))


def test_fit_leaves_an_image_of_the_right_size_alone() -> None:
    image = noise(7, 9)
    assert fit(image, 7, 9) is image


@pytest.mark.parametrize("target", [(12, 24), (24, 12), (5, 40)])
def test_fit_to_oblong(target: tuple[int, int]) -> None:
    assert to_array(fit(noise(20, 30), *target)).shape == (*target, 3)


@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_crop_and_resize_is_torchvisions(resample: str) -> None:
    image = noise(40, 50)
    mode = functional.InterpolationMode(resample)
    expected = functional.resized_crop(image, 3, 5, 20, 30, [16, 16], mode)
    assert np.array_equal(to_array(crop_and_resize(image, (3, 5, 20, 30), 16, 16, resample)), np.asarray(expected))

"""Augmentation of batches against plain references, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import functional

from oba.data.augment import (
    Changes,
    crop_boxes,
    draw_bicubic,
    draw_boxes,
    draw_flips,
    draw_offsets,
    mirror,
    pad_and_crop,
    resize_boxes,
)
from oba.datasets import AugmentConfig


def some_images(batch: int, channels: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, channels, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("shape", [(9, 3, 8, 8), (5, 1, 6, 11), (1, 3, 11, 4)])
@pytest.mark.parametrize("padding", [1, 4, 20])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_pad_and_crop(shape: tuple[int, int, int, int], padding: int, dtype: torch.dtype) -> None:
    images = some_images(*shape).to(dtype)
    _, channels, height, width = shape
    offsets = torch.randint(0, 2 * padding + 1, (shape[0], 2), generator=torch.Generator().manual_seed(1))
    offsets[-1] = 2 * padding
    cropped = pad_and_crop(images, offsets, padding)
    for image, (top, left), found in zip(images, offsets.tolist(), cropped, strict=True):
        padded = torch.zeros(channels, height + 2 * padding, width + 2 * padding, dtype=dtype)
        padded[:, padding : padding + height, padding : padding + width] = image
        assert torch.equal(found, padded[:, top : top + height, left : left + width])


def test_central_offset_changes_nothing() -> None:
    images = some_images(4, 3, 8, 8)
    assert torch.equal(pad_and_crop(images, torch.full((4, 2), 3), 3), images)


def test_mirror() -> None:
    images = some_images(4, 3, 5, 7)
    flips = torch.tensor([True, False, False, True])
    expected = [np.fliplr(image.numpy().transpose(1, 2, 0)).transpose(2, 0, 1) for image in images[flips]]
    assert np.array_equal(mirror(images, flips)[flips].numpy(), np.stack(expected))
    assert torch.equal(mirror(images, flips)[~flips], images[~flips])


@pytest.mark.parametrize(("height", "width"), [(8, 8), (100, 75), (33, 90)])
def test_boxes_lie_in_the_image_with_allowed_area_and_aspect(height: int, width: int) -> None:
    draws = np.random.default_rng(0).random((2000, 22))
    top, left, rows, columns = crop_boxes(draws, height, width).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + rows <= height).all()
    assert (left + columns <= width).all()
    assert rows.min() >= 1
    if height > 8:
        share = rows * columns / (height * width)
        assert share.min() == pytest.approx(0.08, abs=0.01)
        assert ((columns / rows > 0.7) & (columns / rows < 1.42)).all()
    assert (top == 0).any()
    assert (top + rows == height).any()


def test_boxes_follow_the_first_try_that_fits() -> None:
    draws = np.zeros((1, 22))
    draws[0, 0:2] = 1, 1  # whole area at aspect 4/3: too wide for a square
    draws[0, 2:4] = (0.25 - 0.08) / 0.92, 0.5  # a quarter of the area, square
    draws[0, 20:] = 0.999, 0.5
    assert crop_boxes(draws, 40, 40).tolist() == [[20, 10, 20, 20]]


@pytest.mark.parametrize(
    ("height", "width", "box"), [(90, 30, [25, 0, 40, 30]), (30, 90, [0, 25, 30, 40]), (40, 40, [0, 0, 40, 40])]
)
def test_boxes_fall_back_to_the_centre(height: int, width: int, box: list[int]) -> None:
    draws = np.ones((1, 22))
    draws[0, 1:20:2] = 1 if height >= width else 0
    assert crop_boxes(draws, height, width).tolist() == [box]


@pytest.mark.parametrize("scale", [0.35, 1.0])
def test_boxes_are_at_least_of_the_scale(scale: float) -> None:
    draws = np.random.default_rng(0).random((2000, 22))
    _, _, rows, columns = crop_boxes(draws, 100, 100, scale).T
    share = rows * columns / 100**2
    if scale == 1.0:  # nothing but the whole area fits, at an aspect of 1 alone
        assert share.min() > 0.7
    else:
        assert scale - 0.01 < share.min() < scale + 0.02


@pytest.mark.parametrize("shape", [(6, 3, 16, 16), (6, 1, 9, 14)])
@pytest.mark.parametrize("bicubic", ["none", "all", "some"])
def test_resized_boxes_are_torchvisions(shape: tuple[int, int, int, int], bicubic: str) -> None:
    images = some_images(*shape)
    height, width = shape[2:]
    boxes = crop_boxes(np.random.default_rng(1).random((shape[0], 22)), height, width)
    boxes[0] = [0, 0, height, width]
    if bicubic == "none":
        boxes[1] = [3, 2, 1, 1]
    chosen = torch.tensor({"none": [False] * 6, "all": [True] * 6, "some": [True, False] * 3}[bicubic])
    found = resize_boxes(images, torch.from_numpy(boxes), chosen)
    assert found.dtype == torch.float32
    for image, box, cubic, result in zip(images, boxes.tolist(), chosen.tolist(), found, strict=True):
        mode = functional.InterpolationMode.BICUBIC if cubic else functional.InterpolationMode.BILINEAR
        expected = functional.resized_crop(image.double(), *box, [height, width], mode, antialias=False)
        inside = slice(None)
        if cubic:  # at a box's border, bicubic interpolation looks beyond it where there is more of the image
            _, _, rows, columns = box
            inner_rows = 2 * -(-height // rows) if rows < height else 0
            inner_columns = 2 * -(-width // columns) if columns < width else 0
            inside = (slice(None), slice(inner_rows, height - inner_rows), slice(inner_columns, width - inner_columns))
        assert torch.allclose(result.double()[inside], expected.clamp(0, 255)[inside], atol=2e-2)


def test_no_boxes_are_no_images() -> None:
    images, boxes = some_images(0, 3, 8, 8), torch.zeros(0, 4, dtype=torch.int64)
    assert resize_boxes(images, boxes, torch.zeros(0, dtype=torch.bool)).shape == images.shape
    assert pad_and_crop(images, boxes[:, :2], 2).shape == images.shape


def test_draws_are_what_is_asked_for() -> None:
    images = np.arange(4000)
    config = AugmentConfig(crop="pad", padding=2, flip=True, interpolation="random")
    changes = Changes(config, 7, (0.5,))
    offsets = draw_offsets(images, changes)
    for axis in range(2):
        assert np.bincount(offsets[:, axis], minlength=5).min() > 700
        assert offsets[:, axis].max() == 4
    assert abs(np.corrcoef(offsets.T)[0, 1]) < 0.05
    assert 0.45 < draw_flips(images, changes).mean() < 0.55
    assert 0.45 < draw_bicubic(images, changes).mean() < 0.55
    boxes = draw_boxes(images, changes)
    assert boxes.shape == (4000, 22)
    assert np.abs(boxes.mean(0) - 0.5).max() < 0.02


@pytest.mark.parametrize(("interpolation", "expected"), [("bilinear", False), ("bicubic", True)])
def test_what_is_settled_is_not_drawn(interpolation: str, expected: bool) -> None:
    changes = Changes(AugmentConfig.model_validate({"interpolation": interpolation}), 7, (0.5,))
    assert (draw_bicubic(np.arange(50), changes) == expected).all()
    assert not draw_flips(np.arange(50), changes).any()

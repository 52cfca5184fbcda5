"""Changes of single images: what timm and torchvision make of them with the same seeds."""

from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from timm.data.auto_augment import auto_augment_transform, rand_augment_transform
from torchvision.transforms import ColorJitter, InterpolationMode, TrivialAugmentWide

from oba.data.augment import Changes, draw_flips, draw_offsets
from oba.data.augmentations.policy import policy_changes
from oba.data.changes import View, view_batch
from oba.data.draws import Purpose, random_bits
from oba.datasets import AugmentConfig

MEAN = (0.5, 0.4, 0.3)
HINTS = {"translate_const": 14, "img_mean": (128, 102, 76), "interpolation": Image.Resampling.BILINEAR}


def picture(index: int, mode: str = "RGB") -> Image.Image:
    shape = (32, 40) if mode == "L" else (32, 40, 3)
    small = np.random.default_rng(index).integers(0, 256, (4, 5, *shape[2:]), dtype=np.uint8)
    return Image.fromarray(small).resize((40, 32))


def changed(images: list[int], seed: int = 3, mode: str = "RGB", **values: object) -> np.ndarray:
    changes = Changes(AugmentConfig.model_validate(values), seed, MEAN if mode == "RGB" else (0.5,))
    view = View((len(mode), 32, 40))
    return view_batch(lambda index: picture(index, mode), np.array(images), view, changes)


@pytest.mark.parametrize(
    ("policy", "transform"),
    [
        ("rand-m9-n2-mstd0.5-inc1", rand_augment_transform("rand-m9-n2-mstd0.5-inc1", dict(HINTS))),
        ("rand-mstd1-tweights", rand_augment_transform("rand-mstd1-tweights", dict(HINTS))),
        ("original-mstd0.5", auto_augment_transform("original-mstd0.5", dict(HINTS))),
        ("v0r", auto_augment_transform("v0r", dict(HINTS))),
        ("trivial", TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR)),
        ("none", ColorJitter(0.4, 0.4, 0.4)),
    ],
)
def test_policies_are_timms_and_torchvisions(policy: str, transform: object) -> None:
    images = list(range(24))
    found = changed(images, policy=policy, color_jitter=0.4 if policy == "none" else 0.0)
    seeds = random_bits(3, np.array(images), Purpose.POLICY, 1)[:, 0].tolist()
    different = 0
    for index, seed, pixels in zip(images, seeds, found, strict=True):
        random.seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)
        torch.manual_seed(seed)
        expected = np.asarray(transform(picture(index)))  # pyright: ignore[reportCallIssue]
        assert np.array_equal(pixels.transpose(1, 2, 0), expected)
        different += not np.array_equal(expected, np.asarray(picture(index)))
    assert different > 12


@pytest.mark.parametrize("policy", ["rand-m10-n1-p1-inc1", "rand-m1-n1-p1", "v0"])
def test_posterizing_to_no_bits_is_black(policy: str) -> None:
    images = list(range(150))
    black = [index for index, pixels in zip(images, changed(images, policy=policy), strict=True) if not pixels.any()]
    assert 1 <= len(black) < 40
    seeds = random_bits(3, np.array(images), Purpose.POLICY, 1)[:, 0].tolist()
    transform = (rand_augment_transform if policy.startswith("rand") else auto_augment_transform)(policy, dict(HINTS))
    for index in black:
        random.seed(seeds[index])
        np.random.seed(seeds[index] & 0xFFFFFFFF)
        with suppress(ValueError):  # of a Pillow that does not posterize to no bits
            assert not np.asarray(transform(picture(index))).any()


def test_crop_and_flip_come_first() -> None:
    config = AugmentConfig(crop="pad", padding=3, flip=True, policy="rand-m0-p0")
    changes = Changes(config, 5, MEAN)
    images = np.arange(20)
    found = view_batch(picture, images, View((3, 32, 40)), changes)
    offsets, flips = draw_offsets(images, changes), draw_flips(images, changes)
    for index, (top, left), flip, pixels in zip(images, offsets, flips, found, strict=True):
        expected = ImageOps.expand(picture(int(index)), 3).crop((left, top, left + 40, top + 32))
        expected = ImageOps.mirror(expected) if flip else expected
        assert np.array_equal(pixels.transpose(1, 2, 0), np.asarray(expected))


def test_the_interpolation_of_the_recipe_is_the_policys() -> None:
    def resamplings(**values: str) -> set[object]:
        config = AugmentConfig.model_validate({"policy": "rand-m9", **values})
        [policy] = policy_changes(config, 32, MEAN)
        return {op.kwargs["resample"] for op in policy.ops}  # pyright: ignore[reportAttributeAccessIssue]

    assert resamplings(interpolation="bicubic") == {Image.Resampling.BICUBIC}
    assert resamplings(interpolation="random") == {(Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)}
    [trivial] = policy_changes(AugmentConfig(policy="trivial", interpolation="bicubic"), 32, MEAN)
    assert trivial.interpolation == InterpolationMode.BICUBIC  # pyright: ignore[reportFunctionMemberAccess]


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "original", "trivial"])
def test_grey_images_stay_grey(policy: str) -> None:
    found = changed(list(range(40)), mode="L", policy=policy)
    assert found.shape == (40, 1, 32, 40)
    plain = [np.asarray(picture(index, "L")) for index in range(40)]
    assert sum(not np.array_equal(pixels[0], image) for pixels, image in zip(found, plain, strict=True)) > 20


def test_an_image_is_changed_alike_in_any_batch() -> None:
    config = {"crop": "resized", "flip": True, "policy": "rand-m9-mstd0.5-inc1", "color_jitter": 0.2}
    whole = changed(list(range(12)), **config)
    assert np.array_equal(changed([7, 2], **config), whole[[7, 2]])
    assert not np.array_equal(changed([7, 2], seed=4, **config), whole[[7, 2]])

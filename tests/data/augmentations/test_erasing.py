"""Random erasing: timm's, of the images and the seed alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from timm.data.random_erasing import RandomErasing

from oba.data.augment import Changes
from oba.data.augmentations.erasing import erase
from oba.data.draws import Purpose, random_bits, uniforms
from oba.datasets import AugmentConfig

IMAGES = np.arange(400)


def erased(images: np.ndarray, seed: int = 1, **values: object) -> torch.Tensor:
    batch = torch.full((len(images), 3, 24, 20), 9.0)
    erase(batch, images, Changes(AugmentConfig.model_validate({"erase": 0.25, **values}), seed, (0.5,) * 3))
    return batch


@pytest.mark.parametrize("mode", ["pixel", "const"])
def test_rectangles_are_timms(mode: str) -> None:
    found = erased(IMAGES, erase_mode=mode)
    chosen = uniforms(1, IMAGES, Purpose.ERASE, 1)[:, 0] < 0.25
    assert 0.2 < chosen.mean() < 0.3
    for index, seed in enumerate(random_bits(1, IMAGES, Purpose.ERASE, 2)[:, 1].tolist()):
        expected = torch.full((3, 24, 20), 9.0)
        if chosen[index]:
            random.seed(seed)
            torch.manual_seed(seed)
            RandomErasing(1.0, mode=mode, device="cpu")(expected)
        assert torch.equal(found[index], expected)


def test_the_mean_is_filled_in() -> None:
    found = erased(IMAGES, erase_mode="const")
    assert set(found.unique().tolist()) == {0.0, 9.0}
    assert 0.01 < (found == 0).float().mean() < 0.08


def test_an_image_is_erased_alike_in_any_batch() -> None:
    whole = erased(IMAGES)
    some = np.array([399, 5, 77])
    assert torch.equal(erased(some), whole[some])
    assert not torch.equal(erased(IMAGES, seed=2), whole)
    assert erased(IMAGES[:0]).shape == (0, 3, 24, 20)


def test_global_random_states_are_left_alone() -> None:
    python, numbers = random.getstate(), torch.get_rng_state()
    erased(IMAGES)
    assert random.getstate() == python
    assert torch.equal(torch.get_rng_state(), numbers)

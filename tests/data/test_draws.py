"""Random numbers of images: uniform, of the seed and the image alone, and apart for each purpose."""

from __future__ import annotations

import numpy as np
import pytest

from oba.data.draws import Purpose, random_bits, uniforms

IMAGES = np.arange(20_000)


def splitmix64(state: int) -> int:
    """Return the next output after a state, as Steele, Lea and Flood (2014) define it."""
    mask = (1 << 64) - 1
    mixed = state = (state + 0x9E3779B97F4A7C15) & mask
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & mask
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & mask
    return mixed ^ mixed >> 31


def test_bits_are_splitmix64s() -> None:
    """With seed 0, image 0 and no purpose the state before the first number is 0."""
    [[first, second]] = random_bits(0, np.array([0]), 0, 2).tolist()  # pyright: ignore[reportArgumentType]
    assert first == splitmix64(0) == 0xE220A8397B1DCDAF
    assert second == splitmix64(0x9E3779B97F4A7C15)


def test_numbers_are_uniform_and_independent() -> None:
    numbers = uniforms(3, IMAGES, Purpose.FLIP, 4)
    assert numbers.shape == (20_000, 4)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for column in numbers.T:
        assert np.abs(np.histogram(column, 20, (0, 1))[0] - 1000).max() < 140
    neighbours = np.column_stack([numbers, np.roll(numbers[:, :1], 1, axis=0)])
    assert np.abs(np.corrcoef(neighbours.T) - np.eye(5)).max() < 0.03


def test_an_images_numbers_do_not_depend_on_its_neighbours() -> None:
    whole = uniforms(3, IMAGES, Purpose.BOX, 22)
    some = np.array([17, 3, 19_999, 17])
    assert np.array_equal(uniforms(3, some, Purpose.BOX, 22), whole[some])
    assert np.array_equal(uniforms(3, some, Purpose.BOX, 5), whole[some, :5])
    assert uniforms(3, IMAGES[:0], Purpose.BOX, 22).shape == (0, 22)


@pytest.mark.parametrize("other", [(4, Purpose.FLIP), (3, Purpose.BOX), (-3, Purpose.FLIP), (3 + 2**63, Purpose.FLIP)])
def test_seeds_and_purposes_have_numbers_of_their_own(other: tuple[int, Purpose]) -> None:
    one, two = uniforms(3, IMAGES, Purpose.FLIP, 1), uniforms(other[0], IMAGES, other[1], 1)
    assert abs(np.corrcoef(one[:, 0], two[:, 0])[0, 1]) < 0.03
    assert not (one == two).any()


def test_next_seed_is_not_the_next_image() -> None:
    one, two = uniforms(3, IMAGES, Purpose.FLIP, 1), uniforms(4, IMAGES, Purpose.FLIP, 1)
    assert not set(one[:, 0]) & set(two[:, 0])

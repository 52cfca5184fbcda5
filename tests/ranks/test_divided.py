"""Two ranks find what one finds on the same batches: every criterion, every update, and the statistics of norms."""

from __future__ import annotations

import pytest
import torch
from divided import UPDATES, VARIANTS, WEIGHTS, everything
from rank_runs import Found, found_by_one, found_by_two

from oba import registry


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Found:
    return found_by_one(everything, tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Found, Found]:
    return found_by_two("divided.py", tmp_path_factory.mktemp("two"))


def test_nothing_is_left_out():
    assert {name for name, _ in VARIANTS} == {*registry.names("criterion")}
    assert len(WEIGHTS) >= 8
    assert {u if isinstance(u, str) else u["name"] for u in UPDATES} == {*registry.names("update")}


@pytest.mark.parametrize(
    ("what", "tolerance"),
    [
        ("four batches scored", 1e-12),
        ("four batches adjusted", 1e-12),
        ("one batch scored", 1e-12),
        ("one batch adjusted", 1e-12),
        ("single precision scored", 1e-6),
        ("single precision adjusted", 1e-5),  # two rounds, and equations to be solved
    ],
)
def test_two_ranks_find_what_one_finds(one, two, what, tolerance):
    names = [name for name in one if name.startswith(what)]
    assert len(names) >= 80
    for name in names:
        largest = one[name].double().abs().max()
        torch.testing.assert_close(
            two[0][name].double(), one[name].double(), rtol=tolerance, atol=tolerance * largest, msg=name
        )


@pytest.mark.parametrize("size", [1, 3, 7, 8])
def test_every_image_is_evaluated_once(one, two, size):
    expected = one[f"evaluated {size}"]
    assert expected[2] == 7
    for found in two:
        torch.testing.assert_close(found[f"evaluated {size}"], expected, rtol=1e-6, atol=0)
        assert torch.equal(found[f"evaluated {size}"][1:], expected[1:])


def test_all_ranks_find_the_same_to_the_last_bit(two):
    assert list(two[0]) == list(two[1])
    assert [name for name in two[0] if not torch.equal(two[0][name], two[1][name])] == []

"""Moments within the stated memory: in parts, and in as many passes as that takes."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from windows import images

from oba.curvature.grams import input_moments, paired_moments, passes


class Largest(TorchDispatchMode):
    """Notes the bytes of the largest float64 tensor that is made."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dtype == torch.float64:
            self.bytes = max(self.bytes, result.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("limit", [20_000, 100_000, 1_000_000])
def test_no_larger_part_is_unfolded_than_allowed(limit):
    model = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1, groups=2))
    x = torch.randn(20, 4, 16, 16)  # unfolded: 20 images × 16 lines × 16 × 36 columns × 8 bytes = 1.5 MB
    with Largest() as largest:
        grams = [inputs.gram.nbytes for _, inputs in input_moments(model, [x], ["0", "1"], unfold_bytes=limit)]
    assert max(grams) < 20_000
    assert 0.5 * limit < largest.bytes <= limit


def test_passes_fill_the_budget_in_order():
    sizes = {"a": 4, "b": 5, "c": 1, "d": 20, "e": 9, "f": 2}
    assert passes(sizes, 10) == [["a", "b", "c"], ["d"], ["e"], ["f"]]
    assert passes(sizes, 100) == [list(sizes)]
    assert passes({}, 10) == []


def test_layers_beyond_the_budget_wait_for_a_pass_of_their_own():
    model = nn.Sequential(*(nn.Linear(10, 10) for _ in range(5)))
    runs = []
    model.register_forward_hook(lambda *_: runs.append(len(runs)))
    x = images((10,))
    names = ["0", "1", "2", "3", "4"]
    once = dict(input_moments(model, [x, x], names))
    assert len(runs) == 2
    size = 8 * (10 * 10 + 10)
    alive: list[weakref.ref[Tensor]] = []
    found = input_moments(model, [x, x], names, budget_bytes=2 * size)
    for name in names:
        got, inputs = next(found)
        assert got == name
        torch.testing.assert_close(inputs.gram, once[name].gram)
        alive.append(weakref.ref(inputs.gram))
        del inputs
        gc.collect()
        assert not any(gram() is not None for gram in alive)
    assert len(runs) == 2 + 3 * 2
    assert list(found) == []
    assert not any(layer._forward_hooks for layer in model)


def test_a_pair_takes_room_for_its_targets_too():
    model = nn.Sequential(nn.Linear(4, 50), nn.Linear(50, 4))
    runs = []
    model.register_forward_hook(lambda *_: runs.append(0))
    x = images((4,))
    size = 8 * (4 * 5 + 50 * 6 + 50 * 51 + 4 * 52)
    list(paired_moments(nn.Sequential(*model), model, [x], ["0", "1"], budget_bytes=size))
    assert len(runs) == 1
    list(paired_moments(nn.Sequential(*model), model, [x], ["0", "1"], budget_bytes=size - 1))
    assert len(runs) == 3

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from oba.curvature import Watch
from oba.errors import ScoreError


class Probe(nn.Module):
    def __init__(self, seen: list[tuple[str, bool]]) -> None:
        super().__init__()
        self.seen, self.watch = seen, None

    def forward(self, x: Tensor) -> Tensor:
        assert self.watch is not None
        self.seen.append((self.watch.place, self.watch.in_unit))
        return x


class ProbeNorm(Probe):
    pass


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_places_and_units_are_told() -> None:
    seen: list[tuple[str, bool]] = []
    model = nn.Sequential(Probe(seen), nn.Sequential(ProbeNorm(seen)), Probe(seen))
    with Watch(model) as watch:
        for module in model.modules():
            if isinstance(module, Probe):
                module.watch = watch
        assert watch.place == "the model itself"
        model(torch.ones(1))
        assert hooks(model) == 10
    assert seen == [("module '0' (Probe)", False), ("module '1.0' (ProbeNorm)", True), ("module '2' (Probe)", False)]
    assert hooks(model) == 0


class Careless(nn.Module):
    """Catches what its child raises."""

    def __init__(self) -> None:
        super().__init__()
        self.child = Raise()

    def forward(self, x: Tensor) -> Tensor:
        with pytest.raises(RuntimeError):
            self.child(x)
        return x


class Raise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("first line\nsecond line")


def test_a_caught_error_does_not_confuse_the_place() -> None:
    seen: list[tuple[str, bool]] = []
    model = nn.Sequential(Careless(), Probe(seen))
    with Watch(model) as watch:
        model[1].watch = watch
        model(torch.ones(1))
    assert seen == [("module '1' (Probe)", False)]


def test_an_error_becomes_one_line_and_the_hooks_go() -> None:
    model = nn.Sequential(nn.Identity(), Raise())
    with pytest.raises(ScoreError, match=r"^the pass failed at module '1' \(Raise\): first line$"):  # ruff: ignore[multiple-with-statements]
        with Watch(model) as watch, watch.explain("the pass"):
            model(torch.ones(1))
    assert hooks(model) == 0


def test_an_error_without_text_is_named() -> None:
    with pytest.raises(ScoreError, match="the model itself: ValueError"), Watch(nn.ReLU()) as watch, watch.explain("x"):
        raise ValueError


def test_lack_of_memory_and_bugs_pass() -> None:
    with pytest.raises(torch.OutOfMemoryError), Watch(nn.ReLU()) as watch, watch.explain("x"):
        raise torch.OutOfMemoryError
    with pytest.raises(TypeError), Watch(nn.ReLU()) as watch, watch.explain("x"):
        raise TypeError

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from architectures import Concat, PreActivation, Residual
from torch import Tensor, nn
from zoo import Member

from oba.importance.scale_free import scale_free_layers
from oba.importance.state import left_as_found

IMAGE = torch.linspace(-1, 1, 2 * 2 * 36).reshape(2, 2, 6, 6).sin()


def found(model: nn.Module, norm: str, x: Tensor = IMAGE) -> set[str]:
    with left_as_found(model, norm):
        return scale_free_layers(model, x)


def test_layers_in_front_of_norms_with_statistics_of_the_batch_are_found() -> None:
    assert found(Residual(), "train") == {"stem", "conv1", "conv2"}
    assert found(Residual(), "eval") == set()
    assert found(Concat(), "train") == set()


def test_another_path_past_the_norm_counts() -> None:
    assert found(PreActivation(), "train") == set()


class Body(nn.Module):
    def __init__(self, rest: Callable[[nn.Module, Tensor], object]) -> None:
        super().__init__()
        self.layer, self.norm, self.rest = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), rest
        self.other = nn.Conv2d(2, 3, 3)
        self.other.weight = self.layer.weight
        self.instance = nn.InstanceNorm2d(3)

    def forward(self, x: Tensor) -> object:
        return self.rest(self, x)


def _sizes(m: nn.Module, x: Tensor) -> Tensor:
    z = m.layer(x)
    assert z.shape[0] == z.size(0) == len(z)
    assert z.dim() == 4
    assert z.is_floating_point()
    return m.norm(z) * z.shape[1]


@pytest.mark.parametrize(
    ("rest", "free"),
    [
        (_sizes, True),
        (lambda m, x: m.instance(m.layer(x)), True),
        (lambda m, x: F.instance_norm(input=m.layer(x)), True),
        (lambda m, x: F.instance_norm(m.layer(x), torch.zeros(3), torch.ones(3), use_input_stats=False), False),
        (lambda m, x: F.batch_norm(m.layer(x), None, None, None, None, True), True),
        (lambda m, x: F.batch_norm(m.layer(x), torch.zeros(3), torch.ones(3)), False),
        (lambda m, x: m.norm(F.relu(m.layer(x))), False),
        (lambda m, x: [m.norm(z := m.layer(x)), z], False),
        (lambda m, x: {"a": m.norm(z := m.layer(x)), "b": (z,)}, False),
        (lambda m, x: m.norm(z := m.layer(x)) + torch.cat([z, z])[:2], False),
        (lambda m, x: m.norm(m.layer(x)) + m.norm(m.layer(x + 1)), True),
        (lambda m, x: m.norm(m.layer(x)) + m.layer(x), False),
        (lambda m, x: m.norm(m.layer(x)) + m.other(x), False),
        (lambda m, x: F.batch_norm(m.other(x), None, None, m.layer(x).mean((0, 2, 3)), None, True), False),
        (lambda m, x: m.norm(m.layer(x)).chunk(3, 1)[0], True),
        (lambda m, x: x, False),
    ],
)
def test_every_use_is_seen(rest: Callable[[nn.Module, Tensor], object], free: bool) -> None:
    assert ("layer" in found(Body(rest), "train")) is free


def test_an_instance_norm_has_its_own_statistics_in_any_mode() -> None:
    assert "layer" in found(Body(lambda m, x: m.instance(m.layer(x))), "eval")


def test_a_layer_that_returns_no_tensor_is_not_free() -> None:
    class Pair(nn.Linear):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return super().forward(x), x

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair, self.norm = Pair(2, 3), nn.BatchNorm1d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.pair(x)[0])

    assert found(Model(), "train", torch.ones(2, 2)) == set()


def test_the_hooks_are_gone() -> None:
    model = Member("x", Residual, (2, 6, 6)).make().float()
    found(model, "train")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())

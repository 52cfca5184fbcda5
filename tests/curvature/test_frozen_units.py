from __future__ import annotations

import pytest
from architectures import SqueezeExcite, Swish
from torch import nn

from oba.curvature import is_unit


class MyActivation(nn.Module):
    pass


class Normalizer(nn.Module):
    pass


class ReLUBlock(nn.Sequential):
    pass


class Factor(nn.Module):
    pass


@pytest.mark.parametrize(
    "module",
    [
        *(nn.ReLU(), nn.SiLU(), nn.Softmax(-1), nn.GLU(), nn.BatchNorm2d(2), nn.InstanceNorm1d(2), nn.LayerNorm(2)),
        *(nn.RMSNorm(2), nn.AvgPool2d(2), nn.AdaptiveMaxPool1d(1)),
        *(Swish(), MyActivation(), Normalizer(), ReLUBlock(nn.ReLU())),
    ],
    ids=lambda m: type(m).__name__,
)
def test_activations_norms_and_pools_are_units(module: nn.Module) -> None:
    assert is_unit(module)


def test_norms_of_timm_are_units() -> None:
    from timm.layers import BatchNormAct2d, EvoNorm2dS0, LayerNorm2d

    assert all(map(is_unit, (BatchNormAct2d(2), LayerNorm2d(2), EvoNorm2dS0(32))))


@pytest.mark.parametrize(
    "module",
    [
        *(nn.Linear(2, 2), nn.MultiheadAttention(2, 1), nn.Sequential(), nn.Identity(), nn.Flatten()),
        *(nn.Embedding(2, 2), Factor(), SqueezeExcite(), ReLUBlock(nn.Conv1d(1, 1, 1))),
    ],
    ids=lambda m: type(m).__name__,
)
def test_other_modules_are_not(module: nn.Module) -> None:
    assert not is_unit(module)

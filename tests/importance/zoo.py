"""Tiny float64 networks, one for each kind of architecture that scores must be right for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from architectures import (
    CLASSES,
    ComputedNorm,
    Concat,
    Detached,
    Functional,
    MultiHead,
    PreActivation,
    Residual,
    Shared,
    SqueezeExcite,
    Standardized,
    Swish,
    Vit,
)
from torch import Tensor, nn


@dataclass(frozen=True)
class Member:
    """A network of the zoo; ``build`` draws it from the global random state."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    norms: tuple[str, ...] = ("eval",)

    def make(self, seed: int = 0) -> nn.Module:
        """Return a fresh network in float64 with random norm statistics and affine parameters."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.build().double().train()
            for module in model.modules():
                if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                    module.running_mean.normal_(0, 0.2)
                    module.running_var.uniform_(0.5, 1.5)
                for name, parameter in module.named_parameters(recurse=False):
                    if parameter.dim() == 1:
                        nn.init.uniform_(parameter, *((0.5, 1.5) if name == "weight" else (-0.3, 0.3)))
        return model

    def batch(self, size: int = 5, seed: int = 1) -> tuple[Tensor, Tensor]:
        """Return inputs (size, ...) and targets (size,)."""
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(size, *self.shape, generator=generator, dtype=torch.float64)
        return inputs, torch.randint(CLASSES, (size,), generator=generator)


def _sequence(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


def _pooled(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]


def _frozen() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU(), *_pooled(4))
    for parameter in (*model[0].parameters(), *model[1].parameters(), model[3].bias):
        parameter.requires_grad_(False)
    return model


BOTH = ("eval", "train")
IMAGE = (2, 6, 6)

ZOO = [
    Member(
        "mlp",
        lambda: _sequence(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, CLASSES)),
        (4,),
    ),
    Member(
        "conv",
        lambda: _sequence(
            nn.Conv2d(2, 3, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(3, 4, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            *_pooled(4),
        ),
        IMAGE,
    ),
    Member(
        "conv_bn",
        lambda: _sequence(
            nn.Conv2d(2, 3, 3, bias=False),
            nn.BatchNorm2d(3),
            nn.ReLU(inplace=True),
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            *_pooled(4),
        ),
        IMAGE,
        BOTH,
    ),
    Member("residual", Residual, IMAGE, BOTH),
    Member("computed_norm", ComputedNorm, IMAGE),
    Member("pre_activation", PreActivation, IMAGE, BOTH),
    Member("concat", Concat, IMAGE),
    Member(
        "grouped",
        lambda: _sequence(
            nn.Conv2d(2, 4, 3, groups=2),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, groups=2),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            *_pooled(6),
        ),
        IMAGE,
        BOTH,
    ),
    Member(
        "depthwise",
        lambda: _sequence(
            nn.Conv2d(2, 4, 1),
            nn.BatchNorm2d(4),
            nn.ReLU6(),
            nn.Conv2d(4, 4, 3, groups=4, bias=False),
            nn.BatchNorm2d(4),
            nn.Hardswish(),
            nn.Conv2d(4, 3, 1),
            nn.ReLU(),
            *_pooled(3),
        ),
        IMAGE,
        BOTH,
    ),
    Member(
        "strided",
        lambda: _sequence(
            nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 2, stride=2), nn.Tanh(), *_pooled(4)
        ),
        IMAGE,
    ),
    Member(
        "dilated",
        lambda: _sequence(
            nn.Conv2d(2, 3, 3, dilation=2, padding="same"),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
            nn.Sigmoid(),
            *_pooled(4),
        ),
        IMAGE,
    ),
    Member(
        "conv1d",
        lambda: _sequence(
            nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Conv1d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, CLASSES)
        ),
        (2, 6),
    ),
    Member(
        "group_norm",
        lambda: _sequence(
            nn.Conv2d(2, 4, 3),
            nn.GroupNorm(2, 4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3),
            nn.InstanceNorm2d(4),
            nn.GELU(),
            *_pooled(4),
        ),
        IMAGE,
    ),
    Member(
        "layer_norm",
        lambda: _sequence(
            nn.Linear(4, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 4), nn.SiLU(), nn.Linear(4, CLASSES)
        ),
        (4,),
    ),
    Member(
        "swish", lambda: _sequence(nn.Linear(4, 5), Swish(), nn.Linear(5, 4), nn.SiLU(), nn.Linear(4, CLASSES)), (4,)
    ),
    Member("squeeze_excite", SqueezeExcite, IMAGE),
    Member("squeeze_excite_inplace", functools.partial(SqueezeExcite, inplace=True), IMAGE),
    Member("vit_fused", functools.partial(Vit, fused=True), IMAGE),
    Member("vit_unfused", functools.partial(Vit, fused=False), IMAGE),
    Member("multi_head", MultiHead, (4, 3)),
    Member("multi_head_weights", functools.partial(MultiHead, weights=True), (4, 3)),
    Member("multi_head_separate", functools.partial(MultiHead, separate=True), (4, 3)),
    Member("shared", Shared, (4,)),
    Member(
        "no_bias",
        lambda: _sequence(
            nn.Linear(4, 5, bias=False),
            nn.ReLU(),
            nn.Linear(5, 4, bias=False),
            nn.ReLU(),
            nn.Linear(4, CLASSES, bias=False),
        ),
        (4,),
    ),
    Member("frozen", _frozen, IMAGE, BOTH),
    Member("functional", Functional, (4, 4)),
    Member(
        "standardized",
        lambda: _sequence(Standardized(2, 3, 3), nn.ReLU(), Standardized(3, 4, 3), nn.ReLU(), *_pooled(4)),
        IMAGE,
    ),
    Member("detached", Detached, (4,)),
]

CASES = [(member, norm) for member in ZOO for norm in member.norms]
IDS = [f"{member.name}-{norm}" for member, norm in CASES]

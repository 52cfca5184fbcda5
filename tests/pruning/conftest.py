"""Tiny nets of every kind of coupling, in float64, with random norm statistics."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from oba.pruning.dependencies import find_groups
from oba.structures import StructureGroup

sys.path.insert(0, str(Path(__file__).parent))

from attended import normed, rotary, vit, vit_of_torchvision, windowed

SIZE = (3, 8, 8)
CLASSES = 5


class Residual(nn.Module):
    """``relu(f(x) + shortcut(x))``, or with a gate: ``shortcut(x) + g(f(x)) * f(x)``."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class Concat(nn.Module):
    """``[x, f(x)]`` over channels, as in DenseNet."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


class Gate(nn.Module):
    """Squeeze-excite."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(torch.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class Halves(nn.Module):
    """``a * sigmoid(b)`` of the two halves of the channels: two channels make one structure."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return a * torch.sigmoid(b)


class CrossedHalves(nn.Module):
    """The second half is read first, the first half twice."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return torch.sigmoid(b) * a + a


class Glu(nn.Module):
    """A gated MLP on tokens whose two inner layers are one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.project, self.head = nn.Linear(3, 8), nn.Linear(4, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.expand(x.flatten(2).transpose(1, 2)).chunk(2, -1)
        return self.head(torch.relu(self.project(a * nn.functional.silu(b))).mean(1))


class Scale(nn.Module):
    """A bare per-channel parameter."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(channels, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Act(nn.Module):
    """SiLU plus a number: channels that are gone would not be silent by themselves."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(x) + 0.3


def conv(i: int, o: int, *, k: int = 3, groups: int = 1, norm: nn.Module | None = None) -> list[nn.Module]:
    """Conv, batch norm (or another), activation."""
    return [nn.Conv2d(i, o, k, padding=k // 2, groups=groups), norm or nn.BatchNorm2d(o), Act()]


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]


@dataclass(frozen=True)
class Case:
    """One net of the zoo, with its groups.

    Attributes:
        name: Its name.
        model: The net, float64, eval mode.
        groups: Its structures.
        options: What was asked for.
    """

    name: str
    model: nn.Module
    groups: list[StructureGroup]
    options: Mapping[str, bool]


NETS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 10), Act(), nn.Linear(10, 7), Act(), nn.Linear(7, 5)),
    "plain-flatten": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3),
        Act(),
        nn.Conv2d(6, 8, 3, stride=2),
        Act(),
        nn.Flatten(),
        nn.Linear(32, 9),
        Act(),
        nn.Linear(9, 5),
    ),
    "batch-norm": lambda: nn.Sequential(*conv(3, 6), nn.MaxPool2d(2), *conv(6, 8), *head(8)),
    "residual": lambda: nn.Sequential(
        *conv(3, 6),
        Residual(nn.Sequential(*conv(6, 7), nn.Conv2d(7, 6, 3, padding=1), nn.BatchNorm2d(6))),
        Residual(nn.Sequential(*conv(6, 5), nn.Conv2d(5, 8, 3, padding=1)), nn.Conv2d(6, 8, 1)),
        *head(8),
    ),
    "dense": lambda: nn.Sequential(
        *conv(3, 4), Concat(nn.Sequential(*conv(4, 5))), Concat(nn.Sequential(*conv(9, 3))), *conv(12, 6), *head(6)
    ),
    "inverted-residual": lambda: nn.Sequential(
        *conv(3, 4),
        Residual(
            nn.Sequential(*conv(4, 9, k=1), *conv(9, 9, groups=9), nn.Conv2d(9, 4, 1, bias=False), nn.BatchNorm2d(4))
        ),
        *head(4),
    ),
    "squeeze-excite": lambda: nn.Sequential(*conv(3, 8), Gate(8, 3), *conv(8, 6), *head(6)),
    "grouped": lambda: nn.Sequential(*conv(3, 12, k=1), *conv(12, 8, groups=4), nn.Conv2d(8, 6, 1), *head(6)),
    "multiplier": lambda: nn.Sequential(*conv(3, 4), *conv(4, 8, groups=4), *conv(8, 6), *head(6)),
    "group-norm": lambda: nn.Sequential(*conv(3, 8, norm=nn.GroupNorm(4, 8)), *conv(8, 6), *head(6)),
    "instance-norm": lambda: nn.Sequential(
        *conv(3, 6, norm=nn.InstanceNorm2d(6, affine=True, track_running_stats=True)), *conv(6, 4), *head(4)
    ),
    "prelu": lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.PReLU(6), nn.Conv2d(6, 5, 3), nn.PReLU(), *head(5)),
    "layer-scale": lambda: nn.Sequential(nn.Conv2d(3, 6, 3), Scale(6), nn.Conv2d(6, 5, 1), Act(), *head(5)),
    "halves": lambda: nn.Sequential(nn.Conv2d(3, 12, 3), Halves(), nn.Conv2d(6, 5, 1), Act(), *head(5)),
    "crossed-halves": lambda: nn.Sequential(nn.Conv2d(3, 12, 3), CrossedHalves(), nn.Conv2d(6, 5, 1), Act(), *head(5)),
    "glu": Glu,
    "vit": vit,
    "vit-of-torchvision": vit_of_torchvision,
    "rotary": rotary,
    "normed": normed,
    "windowed": windowed,
}
VARIANTS: dict[str, tuple[str, Mapping[str, bool]]] = {
    "residual-streams": ("residual", {"residual_streams": True}),
    "inverted-residual-streams": ("inverted-residual", {"residual_streams": True}),
    **{f"{name}-dims": (name, {"head_dims": True}) for name in ("vit", "vit-of-torchvision", "windowed")},
    "vit-only-dims": ("vit", {"heads": False, "head_dims": True}),
}
"""Nets of the zoo of which more, or less, is asked for."""


def make(name: str) -> nn.Module:
    """Build one net of the zoo: random, eval mode, float64, nothing in its norms at its default."""
    name, _ = VARIANTS.get(name, (name, {}))
    torch.manual_seed(sum(map(ord, name)))
    model = NETS[name]().double().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    return model


_CASES: dict[str, list[StructureGroup]] = {}


@pytest.fixture(params=[*NETS, *VARIANTS])
def case(request: pytest.FixtureRequest) -> Case:
    """Every net of the zoo in turn, built anew; groups are traced once."""
    name = request.param
    model, (_, options) = make(name), VARIANTS.get(name, (name, {}))
    if name not in _CASES:
        _CASES[name] = find_groups(model, SIZE, **options)
    return Case(name, model, _CASES[name], options)


@pytest.fixture
def zoo() -> Callable[[str], Case]:
    """Return one net of the zoo by name."""

    def get(name: str) -> Case:
        model, (_, options) = make(name), VARIANTS.get(name, (name, {}))
        return Case(name, model, find_groups(model, SIZE, **options), options)

    return get


@pytest.fixture
def images() -> Tensor:
    """Three random images in float64."""
    return torch.randn(3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

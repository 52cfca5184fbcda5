"""Small nets, each with its groups of structures and with its forward pass written by hand as a function of masks.

Masks have shape (S,), one for all examples, or (N, S). Norms are arithmetic, so that nothing here is shared with what
is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from architectures import CLASSES, Residual
from torch import Tensor, nn
from zoo import Member

from oba.importance.batches import Batch
from oba.importance.hessians import GaussNewton, MaskHessian
from oba.importance.masks import places_of
from oba.structures import Slice, StructureGroup

Loss = Callable[[Tensor, Tensor], Tensor]


def single(count: int) -> tuple[tuple[int, ...], ...]:
    return tuple((i,) for i in range(count))


def group(name: str, count: int, *slices: tuple[str, str]) -> StructureGroup:
    return StructureGroup(name, tuple(Slice(layer, axis, single(count)) for layer, axis in slices))


@dataclass(frozen=True)
class MaskedNet:
    """A net with groups; ``by_hand(model, masks, inputs)`` returns logits."""

    name: str
    member: Member
    groups: list[StructureGroup]
    by_hand: Callable[[Any, Tensor, Tensor], Tensor]
    norms: tuple[str, ...] = ("eval",)

    @property
    def structures(self) -> int:
        return sum(len(g) for g in self.groups)


def planes(masks: Tensor) -> Tensor:
    """Give masks the dimensions of images."""
    return masks[..., None, None]


def norm(layer: Any, x: Tensor) -> Tensor:
    """Batch norm, of the batch where the layer is in training mode."""
    mean, variance = layer.running_mean, layer.running_var
    if layer.training:
        mean = x.mean((0, 2, 3))
        variance = (x - planes(mean)).square().mean((0, 2, 3))
    x = (x - planes(mean)) / planes(variance + layer.eps).sqrt()
    return x * planes(layer.weight) + planes(layer.bias)


def layer_norm(layer: Any, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias


def _mlp(model: Any, m: Tensor, x: Tensor) -> Tensor:
    return model[4](F.relu(model[2](torch.tanh(model[0](x)) * m[..., :5])) * m[..., 5:])


def _residual(model: Any, m: Tensor, x: Tensor) -> Tensor:
    stream, inner = planes(m[..., :4]), planes(m[..., 4:])
    x = F.relu(norm(model.norm, model.stem(x)))
    y = F.relu(norm(model.norm1, model.conv1(x * stream))) * inner
    y = norm(model.norm2, model.conv2(y)) + x
    return model.head((F.relu(y)).mean((2, 3)) * m[..., :4])


def _flat(model: Any, m: Tensor, x: Tensor) -> Tensor:
    return model[3]((torch.sigmoid(model[0](x)) * planes(m)).flatten(1))


def _depthwise(model: Any, m: Tensor, x: Tensor) -> Tensor:
    x = F.relu6(norm(model[1], model[0](x)))
    x = F.relu(norm(model[4], model[3](x))) * planes(m)
    return model[8](F.silu(model[6](x)).mean((2, 3)))


class Mixer(nn.Module):
    """The MLP of a transformer block on tokens, with a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.fc1, self.fc2 = nn.Linear(4, 6), nn.Linear(6, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x + self.fc2(F.gelu(self.fc1(self.norm(x))))).mean(1))


def _mixer(model: Any, m: Tensor, x: Tensor) -> Tensor:
    heads = m.repeat_interleave(2, -1).unsqueeze(-2)
    return model.head((x + model.fc2(F.gelu(model.fc1(layer_norm(model.norm, x))) * heads)).mean(1))


class Twice(nn.Module):
    """A layer that takes its own structures."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.loop, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.loop(torch.sin(self.loop(torch.tanh(self.stem(x)))))))


def _twice(model: Any, m: Tensor, x: Tensor) -> Tensor:
    x = torch.sin(model.loop(torch.tanh(model.stem(x)) * m))
    return model.head(torch.tanh(model.loop(x * m)) * m)


def _piecewise(model: Any, m: Tensor, x: Tensor) -> Tensor:
    x = F.relu(model[0](x)) * planes(m[..., :3])
    return model[6]((F.relu(model[2](x)) * planes(m[..., 3:])).mean((2, 3)))


IMAGE = (2, 6, 6)
PAIRS = tuple((2 * i, 2 * i + 1) for i in range(3))
STREAM = group(
    "stem", 4, ("stem", "out"), ("norm", "feature"), ("conv1", "in"), ("conv2", "out"), ("norm2", "feature"),
    ("head", "in"),
)  # fmt: skip

NETS = [
    MaskedNet(
        "mlp",
        Member(
            "mlp",
            lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, CLASSES)),
            (4,),
        ),
        [group("0", 5, ("0", "out"), ("2", "in")), group("2", 4, ("2", "out"), ("4", "in"))],
        _mlp,
    ),
    MaskedNet(
        "residual",
        Member("residual", Residual, IMAGE),
        [STREAM, group("conv1", 5, ("conv1", "out"), ("norm1", "feature"), ("conv2", "in"))],
        _residual,
        ("eval", "train"),
    ),
    MaskedNet(
        "flat",
        Member("flat", lambda: nn.Sequential(nn.Conv2d(2, 3, 5), nn.Sigmoid(), nn.Flatten(), nn.Linear(12, 3)), IMAGE),
        [
            StructureGroup(
                "0",
                (
                    Slice("0", "out", single(3)),
                    Slice("3", "in", tuple(tuple(range(4 * i, 4 * i + 4)) for i in range(3))),
                ),
            )
        ],
        _flat,
    ),
    MaskedNet(
        "depthwise",
        Member(
            "depthwise",
            lambda: nn.Sequential(
                nn.Conv2d(2, 4, 1),
                nn.BatchNorm2d(4),
                nn.ReLU6(),
                nn.Conv2d(4, 4, 3, groups=4),
                nn.BatchNorm2d(4),
                nn.ReLU(inplace=True),
                nn.Conv2d(4, 3, 1),
                nn.Sequential(nn.SiLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
                nn.Linear(3, CLASSES),
            ),
            IMAGE,
        ),
        [group("0", 4, ("0", "out"), ("1", "feature"), ("3", "out"), ("3", "in"), ("4", "feature"), ("6", "in"))],
        _depthwise,
        ("eval", "train"),
    ),
    MaskedNet(
        "mixer",
        Member("mixer", Mixer, (5, 4)),
        [StructureGroup("fc1", (Slice("fc1", "out", PAIRS), Slice("fc2", "in", PAIRS)))],
        _mixer,
    ),
    MaskedNet(
        "twice",
        Member("twice", Twice, (4,)),
        [group("stem", 4, ("stem", "out"), ("loop", "out"), ("loop", "in"), ("head", "in"))],
        _twice,
    ),
    MaskedNet(
        "piecewise",
        Member(
            "piecewise",
            lambda: nn.Sequential(
                nn.Conv2d(2, 3, 3),
                nn.ReLU(inplace=True),
                nn.Conv2d(3, 4, 3),
                nn.ReLU(inplace=True),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(4, CLASSES),
            ),
            IMAGE,
        ),
        [group("0", 3, ("0", "out"), ("2", "in")), group("2", 4, ("2", "out"), ("6", "in"))],
        _piecewise,
    ),
]

BY_NAME = {net.name: net for net in NETS}
MASKED_CASES = [(net, how) for net in NETS for how in net.norms]
MASKED_IDS = [f"{net.name}-{how}" for net, how in MASKED_CASES]
EVAL_IDS = [net.name for net in NETS]


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - F.one_hot(targets, 3)).square().mean()


def made(net: MaskedNet, size: int = 5, loss: Loss = F.cross_entropy) -> tuple[nn.Module, Batch]:
    return net.member.make(), Batch(0, *net.member.batch(size), loss)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hessian_of(model: nn.Module, groups: Sequence[StructureGroup], batch: Batch) -> MaskHessian:
    return MaskHessian(model, places_of(model, groups), batch)


def roots_of(
    model: nn.Module, groups: Sequence[StructureGroup], batch: Batch, samples: int, generator: torch.Generator
) -> GaussNewton:
    return GaussNewton(model, places_of(model, groups), batch, samples, generator)

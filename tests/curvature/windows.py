"""Layers of every geometry, and their windows as rows: outputs of a copy whose weight is the identity."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

CASES = {
    "conv2d": (nn.Conv2d(3, 4, 3), (3, 6, 5)),
    "strided, padded, dilated": (nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(2, 1)), (2, 7, 6)),
    "padding by name": (nn.Conv2d(2, 3, (4, 3), padding="same", dilation=(1, 2)), (2, 6, 6)),
    "reflecting": (nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="reflect"), (2, 5, 6)),
    "circular": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular", bias=False), (2, 5, 6)),
    "replicating, even kernel": (nn.Conv2d(2, 3, 4, padding="same", padding_mode="replicate"), (2, 6, 6)),
    "grouped": (nn.Conv2d(6, 4, 3, groups=2, padding=1), (6, 5, 5)),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4, padding=1, stride=2), (4, 6, 6)),
    "depthwise, twice as wide": (nn.Conv2d(3, 6, 3, groups=3, bias=False), (3, 5, 5)),
    "pointwise, strided": (nn.Conv2d(5, 2, 1, stride=2), (5, 5, 5)),
    "conv1d": (nn.Conv1d(3, 2, 3, stride=2, padding=1, groups=1), (3, 9)),
    "conv1d grouped": (nn.Conv1d(4, 2, 2, dilation=2, groups=2), (4, 9)),
    "conv3d": (nn.Conv3d(2, 4, (2, 3, 1), padding=(1, 0, 0), groups=2), (2, 4, 4, 3)),
    "wider than a panel": (nn.Conv2d(60, 2, 3), (60, 3, 4)),
    "linear": (nn.Linear(5, 3), (5,)),
    "linear on tokens": (nn.Linear(5, 3, bias=False), (4, 5)),
    "linear on maps": (nn.Linear(5, 3), (3, 2, 5)),
}
IMAGES = 5


def images(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(seed)) + 0.3


def unfolded(layer: Any, x: Tensor) -> Tensor:
    """Return the rows, (groups, rows, columns), by a copy of the layer whose weight is the identity."""
    if isinstance(layer, nn.Linear):
        return x.double().reshape(1, -1, x.shape[-1])
    columns, groups = layer.weight[0].numel(), layer.groups
    twin = copy.deepcopy(layer).double()
    twin.weight = nn.Parameter(torch.eye(columns).double().repeat(groups, 1).reshape(-1, *layer.weight.shape[1:]))
    twin.bias, twin.out_channels = None, groups * columns
    return by_group(twin(x.double()).detach(), groups)


def by_group(y: Tensor, groups: int) -> Tensor:
    """Return a convolution's output as (groups, rows, outputs of a group)."""
    return y.flatten(2).unflatten(1, (groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)


def output_rows(layer: Any, y: Tensor, groups: int) -> Tensor:
    return y.double().reshape(1, -1, y.shape[-1]) if isinstance(layer, nn.Linear) else by_group(y.double(), groups)


def second(a: Tensor, b: Tensor) -> Tensor:
    return a.mT @ b / a.shape[1]

"""Nets that the tests export."""

from __future__ import annotations

import torch
from torch import nn

from oba.models.stored import ModelCard

MEAN, STD = (0.48, 0.45, 0.41), (0.23, 0.22, 0.21)


class Own(nn.Module):
    """A net that the project does not know by name."""

    def __init__(self, act: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.act = act or nn.GELU()
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.norm(self.conv(x))).mean((2, 3)))


def card_of(name: str, size: tuple[int, int, int], classes: int = 10) -> ModelCard:
    names = tuple(f"class {i}" for i in range(classes))
    return ModelCard(name, classes, size, names, MEAN[: size[0]], STD[: size[0]])

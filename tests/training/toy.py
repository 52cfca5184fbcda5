"""A separable toy problem with the interface of a data bundle; as a script, a training that stops to be killed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from oba.errors import StoppedError
from oba.machine import RuntimeConfig
from oba.models import build_model
from oba.recipes import TrainConfig
from oba.signals import listen, received
from oba.training.device import seeded
from oba.training.loop import train


class ToySplit:
    """Noisy images of one texture each: rows, columns, a chessboard or nothing; the texture is the class."""

    def __init__(self, images: int, seed: int, size: int = 8, channels: int = 1, classes: int = 4) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.targets = torch.randint(classes, (images,), generator=generator)
        self.inputs = torch.randn(images, channels, size, size, generator=generator)
        stripes = (-1.0) ** torch.arange(size)
        rows, columns = stripes[:, None].expand(size, size), stripes.expand(size, size)
        textures = torch.stack([rows, columns, rows * columns, torch.zeros(size, size)])
        self.inputs += textures[self.targets % 4, None]
        self.calls: list[tuple[int | None, bool]] = []

    def __len__(self) -> int:
        return len(self.targets)

    def batches(
        self,
        batch_size: int,
        *,
        shuffle_seed: int | None = None,
        augment: bool = False,
        part: tuple[int, int] = (0, 1),
        skip: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        self.calls.append((shuffle_seed, augment))
        order, inputs = torch.arange(len(self)), self.inputs
        if shuffle_seed is not None:
            generator = torch.Generator().manual_seed(shuffle_seed)
            order = torch.randperm(len(self), generator=generator)
            inputs = inputs + (0.1 * torch.randn(inputs.shape, generator=generator) if augment else 0)
        for batch in order.split(batch_size)[skip:]:
            mine = batch[part[0] :: part[1]]
            yield inputs[mine], self.targets[mine]


class StoppingSplit(ToySplit):
    """Says so and waits for a signal, in the middle of the epoch that starts with its n-th pass."""

    def __init__(self, images: int, seed: int, at: int, marker: Path) -> None:
        super().__init__(images, seed)
        self.at, self.marker = at, marker

    def batches(self, batch_size: int, **options: Any) -> Iterator[tuple[Tensor, Tensor]]:
        every = super().batches(batch_size, **options)
        for number, batch in enumerate(every):
            if len(self.calls) == self.at and number == 2:
                self.marker.touch()
                deadline = time.monotonic() + 600
                while received() is None and time.monotonic() < deadline:
                    time.sleep(0.01)
            yield batch


class ToyBundle:
    """The parts of a data bundle that training uses."""

    def __init__(self, train: ToySplit | None = None, val: ToySplit | None = None) -> None:
        self.train = train or ToySplit(65, seed=1)
        self.val = val or ToySplit(30, seed=2)
        self.info = SimpleNamespace(classes=["rows", "columns", "chessboard", "nothing"])


class ToyNet(nn.Module):
    """A small net with batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.body = build_model("resnet8x0.25", num_classes=8, input_size=(1, 8, 8))
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.body(x)))


def toy_net() -> ToyNet:
    """Return always the same net."""
    with seeded(0):
        return ToyNet()


CONFIG = TrainConfig(epochs=4, batch_size=16, lr=0.1, select="best")


def main(state_dir: str, marker: str, at: str, threads: str) -> None:
    """Train, and stop in the middle of epoch ``at``."""
    listen()
    torch.set_num_threads(int(threads))
    bundle = ToyBundle(StoppingSplit(65, seed=1, at=int(at), marker=Path(marker)))
    train(
        toy_net(),
        bundle,  # pyright: ignore[reportArgumentType]
        CONFIG,
        seed=3,
        state_dir=Path(state_dir),
        device=torch.device("cpu"),
        runtime=RuntimeConfig(),
        on_epoch=lambda _: None,
        label="toy",
    )


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except StoppedError as error:
        print(error)
        sys.exit(error.exit_code)

"""What ranks train together: run as a script by each rank, and called by the test as the one rank of its own job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from rank_runs import save_found
from torch import Tensor, nn

from oba.machine import RuntimeConfig
from oba.recipes import EmaConfig, TrainConfig
from oba.training import stopping
from oba.training.device import seeded
from oba.training.loop import train
from oba.training.records import EpochRecord

BASE: dict[str, Any] = {"epochs": 3, "batch_size": 10, "lr": 0.05}
PLAIN: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adamw, average, parts": {
        "optimizer": "adamw", "lr": 0.01, "ema": EmaConfig(decay=0.8), "accumulate": 2, "clip_norm": 0.5,
        "select": "best",
    },
    "smoothed, uneven": {"batch_size": 15, "label_smoothing": 0.1},
}  # fmt: skip
"""Recipes in which it does not matter how a batch is divided."""
STOP_AFTER = 2


class Images:
    """A split of random images, all of which fit into memory."""

    left: int | None = None
    """Batches until the training is stopped."""

    def __init__(self, images: int) -> None:
        draw = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(images, 2, 6, 6, generator=draw, dtype=torch.float64)
        self.targets = torch.randint(3, (images,), generator=draw)

    def __len__(self) -> int:
        return len(self.targets)

    def batches(
        self,
        batch_size: int,
        *,
        shuffle_seed: int | None = None,
        augment: bool = False,
        part: tuple[int, int],
        skip: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.arange(len(self))
        if shuffle_seed is not None:
            order = order[torch.randperm(len(self), generator=torch.Generator().manual_seed(shuffle_seed))]
        for batch in order.split(batch_size)[skip:]:
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise Stopped
            mine = batch[part[0] :: part[1]]
            yield self.inputs[mine].clone(), self.targets[mine]


class Stopped(Exception):
    pass


class Net(nn.Module):
    """A small net with a layer that nothing uses, as some have."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.head, self.unused = nn.Conv2d(2, 4, 3), norm, nn.Linear(64, 3), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().flatten(1))


def net(norm: type[nn.Module] = nn.Identity) -> nn.Module:
    with seeded(0):
        return Net(norm(4)).double()


def trained(
    folder: Path, model: nn.Module, recipe: dict[str, Any], stop: bool = False, steps: int | None = None
) -> list[EpochRecord]:
    """Train a net with the images above, to the end, an epoch or a number of steps."""

    def on_epoch(record: EpochRecord) -> None:
        if stop and record.epoch == STOP_AFTER:
            raise Stopped

    parts = SimpleNamespace(train=Images(50), val=Images(7), info=SimpleNamespace(classes=["a", "b", "c"]))
    parts.train.left = steps
    settings: dict[str, Any] = {"seed": 3, "state_dir": folder, "device": torch.device("cpu"), "label": "net"}
    settings |= {"runtime": RuntimeConfig(), "on_epoch": on_epoch}
    return train(model, parts, TrainConfig(**(BASE | recipe)), **settings).history  # pyright: ignore


def everything(folder: Path) -> dict[str, Tensor]:
    """Weights and figures of all trainings by name."""
    found: dict[str, Tensor] = {}

    def keep(name: str, model: nn.Module, history: list[EpochRecord]) -> None:
        figures = [[r.train_loss, r.train_top1, r.val_loss, r.val_top1, r.lr] for r in history]
        found[f"{name} figures"] = torch.tensor(figures, dtype=torch.float64)
        found.update({f"{name} {key}": t.detach().clone() for key, t in model.state_dict().items()})

    for name, recipe in PLAIN.items():
        model = net()
        keep(name, model, trained(folder / name, model, recipe))
    model = net(nn.BatchNorm2d)
    keep("norms", model, trained(folder / "norms", model, {}))
    stopped, again = net(nn.BatchNorm2d), net(nn.BatchNorm2d)
    try:
        trained(folder / "again", stopped, {}, stop=True)
    except Stopped:
        keep("again", again, trained(folder / "again", again, {}))
    # The state within an epoch holds the statistics of every rank, of the net and of its average.
    recipe = {"ema": EmaConfig(decay=0.8)}
    model, resumed = net(nn.BatchNorm2d), net(nn.BatchNorm2d)
    keep("average", model, trained(folder / "average", model, recipe))
    with patch.multiple(stopping, SAVE_EVERY=0.0, _SHARE=float("inf"), _AGREE_EVERY=0.0):
        for steps in (3, 6):
            with suppress(Stopped):
                trained(folder / "within", net(nn.BatchNorm2d), recipe, steps=steps)
        keep("within", resumed, trained(folder / "within", resumed, recipe, steps=6))  # of 15
    return found


if __name__ == "__main__":
    save_found(everything)

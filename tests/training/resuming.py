"""What tests of interrupted trainings share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oba.training import stopping
from oba.training.records import EpochRecord

TIMES = ("images_per_second", "seconds")


class Interrupted(Exception):
    """Ends a training as a kill would, between two epochs."""


def stop_after(epoch: int) -> Callable[[EpochRecord], None]:
    """Return what a training is to call after each epoch, to be interrupted after one of them."""

    def on_epoch(record: EpochRecord) -> None:
        if record.epoch == epoch:
            raise Interrupted

    return on_epoch


def same(a: nn.Module, b: nn.Module) -> bool:
    """Tell whether two nets have the same tensors, bit for bit."""
    states = a.state_dict(), b.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def figures(history: list[EpochRecord]) -> list[dict[str, Any]]:
    """The history without what differs from run to run."""
    return [{k: v for k, v in asdict(record).items() if k not in TIMES} for record in history]


def save_after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings save as often as they can."""
    monkeypatch.setattr(stopping, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(stopping, "_SHARE", float("inf"))


class Breaking:
    """A split that breaks off when it is asked for one batch too many."""

    def __init__(self, split: Any, batches: int, error: Exception | None = None) -> None:
        self.split, self.left, self.error = split, batches, error or Interrupted()

    def __len__(self) -> int:
        return len(self.split)

    def batches(self, *args: Any, **options: Any) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.split.batches(*args, **options):
            if not self.left:
                raise self.error
            self.left -= 1
            yield batch

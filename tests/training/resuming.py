"""What tests of interrupted trainings share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from oba.training.records import EpochRecord


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

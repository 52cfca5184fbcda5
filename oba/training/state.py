"""The state of an unfinished training, so that a killed one goes on after the last step that was saved.

A state after an epoch is called ``epoch-0003``, one within an epoch ``epoch-0004-step-000120``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oba.snapshots import Snapshots
from oba.training.records import EpochRecord

_PARTS = ("weights", "optimizer", "average", "best")


@dataclass
class EpochPart:
    """The first steps of an epoch."""

    step: int = 0
    """How many are done."""
    seconds: float = 0.0
    """What they took, before interruptions and after."""
    losses: list[float] = field(default_factory=list)
    """Losses that the ranks have added up, of step 1, 2 and so on."""
    own: list[dict[str, Tensor]] = field(default_factory=list)
    """What each rank knows alone: its parts of the losses after those, correct answers, statistics of norms."""


@dataclass
class TrainState:
    """A training after some of its epochs, and perhaps the first steps of another."""

    history: list[EpochRecord] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    """The net's state dict."""
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    """What the optimizer remembers of each parameter, by ``<parameter>/<key>``."""
    average: dict[str, Tensor] = field(default_factory=dict)
    """State dict of the weights' moving average; empty without one."""
    best: dict[str, Tensor] = field(default_factory=dict)
    """State dict of the best epoch so far; empty if the last epoch counts."""
    selected_epoch: int = 0
    """The epoch whose weights count so far."""
    scaler: dict[str, float] = field(default_factory=dict)
    """How losses are scaled in fp16; empty in other precisions."""
    part: EpochPart | None = None
    """What is done of the epoch after those of the history."""

    @property
    def name(self) -> str:
        """What its files are called."""
        epoch = len(self.history)
        return f"epoch-{epoch:04d}" if self.part is None else f"epoch-{epoch + 1:04d}-step-{self.part.step:06d}"


class TrainStates:
    """The states of one training, in a folder of its own."""

    def __init__(self, directory: Path, key: str) -> None:
        """Name the place.

        Args:
            directory: Where; nothing else may write there.
            key: Names what the training depends on; only a state with the same key is loaded again.
        """
        self._snapshots = Snapshots(directory, "epoch-", key, "state of training")

    def save(self, state: TrainState) -> bool:
        """Write a state, atomically, and drop all but the one before it; of several ranks, the first does.

        Args:
            state: The state, of at least one step.

        Returns:
            Whether it is safe. If not, the log has a warning; the first one that cannot be written is an error.
        """
        tensors = {f"{part}/{name}": tensor for part in _PARTS for name, tensor in getattr(state, part).items()}
        value: dict[str, Any] = {"selected_epoch": state.selected_epoch, "scaler": state.scaler, "part": None}
        value["history"] = [asdict(record) for record in state.history]
        if state.part is not None:
            value["part"] = {"step": state.part.step, "seconds": state.part.seconds, "ranks": len(state.part.own)}
            tensors["losses"] = torch.tensor(state.part.losses, dtype=torch.float64)
            for rank, own in enumerate(state.part.own):
                tensors.update({f"own/{rank}/{name}": tensor for name, tensor in own.items()})
        return self._snapshots.save(state.name, value, tensors)

    def load(self) -> TrainState | None:
        """Read the newest sound state; damaged ones and those of other settings are named in the log.

        Returns:
            The state, on the CPU, or None if there is none.
        """
        found = self._snapshots.load()
        if found is None:
            return None
        history = [EpochRecord(**row) for row in found.value["history"]]
        state = TrainState(history, selected_epoch=found.value["selected_epoch"], scaler=found.value["scaler"])
        if (part := found.value["part"]) is not None:
            own: list[dict[str, Tensor]] = [{} for _ in range(part["ranks"])]
            state.part = EpochPart(part["step"], part["seconds"], found.tensors.pop("losses").tolist(), own)
        for name, tensor in found.tensors.items():
            kind, _, rest = name.partition("/")
            if kind == "own" and state.part is not None:
                rank, _, rest = rest.partition("/")
                state.part.own[int(rank)][rest] = tensor
            else:
                getattr(state, kind)[rest] = tensor
        return state

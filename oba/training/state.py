"""The state of an unfinished training, so that a killed one goes on after its last finished epoch.

Each epoch leaves two files: ``epoch-0003.safetensors`` (weights, their average, the best ones, the optimizer's state)
and, once that is complete, ``epoch-0003.json`` (history, and the digest of the former). The last two epochs are kept:
if the newest state turns out damaged, the one before it serves.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import Tensor

from oba import ranks
from oba.errors import FileError
from oba.files import digest_file, read_json, read_tensors, write_json, write_tensors
from oba.training.records import EpochRecord

_log = logging.getLogger(__name__)
_PARTS = ("weights", "optimizer", "average", "best")
_KEYS = {"key", "digest", "selected_epoch", "scaler", "history"}


@dataclass
class TrainState:
    """A training after some of its epochs."""

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


def save_state(directory: Path, state: TrainState, key: str) -> None:
    """Write the state after an epoch, atomically, and drop all but the one before it; of several ranks, the first does.

    Args:
        directory: Where; nothing else may write there.
        state: The state, of at least one epoch.
        key: Names what the training depends on; only a state with the same key is loaded again.
    """
    if not ranks.is_main():
        return
    epoch = len(state.history)
    tensors = {f"{part}/{name}": tensor for part in _PARTS for name, tensor in getattr(state, part).items()}
    weights = directory / f"epoch-{epoch:04d}.safetensors"
    write_tensors(weights, tensors)
    value = {
        "key": key,
        "digest": digest_file(weights),
        "selected_epoch": state.selected_epoch,
        "scaler": state.scaler,
        "history": [asdict(record) for record in state.history],
    }
    write_json(weights.with_suffix(".json"), value)
    for path in _files(directory):
        if path.stem not in {f"epoch-{epoch:04d}", f"epoch-{epoch - 1:04d}"}:
            path.unlink()


def load_state(directory: Path, key: str) -> TrainState | None:
    """Read the newest sound state; damaged ones and those of other settings are named in the log and passed over.

    Args:
        directory: Where states are, or not yet.
        key: The key that the state must have been saved with.

    Returns:
        The state, on the CPU, or None if there is none.
    """
    for path in sorted(directory.glob("epoch-*.json"), reverse=True):
        try:
            return _read(path, key)
        except (FileError, OSError) as error:
            _log.warning("state of training not used: %s", error)
    return None


def _read(path: Path, key: str) -> TrainState:
    """Read one state and check that it is whole and belongs to this training."""
    value = read_json(path)
    if not isinstance(value, dict) or value.keys() != _KEYS:
        raise FileError(f"{path}: not the state of a training")
    if value["key"] != key:
        raise FileError(f"{path}: saved by a training with other settings")
    weights = path.with_suffix(".safetensors")
    if digest_file(weights) != value["digest"]:
        raise FileError(f"{weights}: damaged, its digest is not the recorded one")
    history = [EpochRecord(**row) for row in value["history"]]
    state = TrainState(history, selected_epoch=value["selected_epoch"], scaler=value["scaler"])
    for name, tensor in read_tensors(weights).items():
        part, _, rest = name.partition("/")
        getattr(state, part)[rest] = tensor
    return state


def _files(directory: Path) -> list[Path]:
    """List the files of states, with the partial ones that a kill leaves behind."""
    return [*directory.glob("epoch-*.*"), *directory.glob(".epoch-*.part")]

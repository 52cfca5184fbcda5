"""Weights from files: safetensors or PyTorch checkpoints, never pickled modules."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oba.errors import FileError, ModelError
from oba.files import read_shapes, read_tensors
from oba.models.attention import Attention

_WRAPPERS = ("state_dict", "model")
_PARALLEL = "module."
_NAMED = 3


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a file's weights into a net, which they must fit exactly.

    Checkpoints may wrap the state dict as ``{"state_dict": …}`` or ``{"model": …}``, and its names may all
    start with ``module.``, as nn.DataParallel leaves them.

    Args:
        model: The net; changed in place.
        path: A ``.safetensors``, ``.pt`` or ``.pth`` file.

    Raises:
        ModelError: If the file is missing, not readable without running code from it, or does not fit the net.
    """
    model.load_state_dict(_fitting(model, Path(path), "cpu"))


def check_weights(model: nn.Module, path: Path) -> None:
    """Refuse what :func:`load_weights` would refuse, reading only the names and shapes in a file.

    Args:
        model: The net; left as found.
        path: The file.
    """
    _fitting(model, Path(path), "meta")


def _fitting(model: nn.Module, path: Path, device: str) -> dict[str, Tensor]:
    """Return a file's tensors under the names that they have in the net, which they fit."""
    found = _read(path, device)
    if found and all(name.startswith(_PARALLEL) for name in found):
        found = {name.removeprefix(_PARALLEL): tensor for name, tensor in found.items()}
    for prefix, module in model.named_modules():
        if isinstance(module, Attention):
            module.translate(found, f"{prefix}.")
    expected = model.state_dict()
    both = [name for name in expected if name in found]
    problems = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another size": [
            f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in both
            if found[name].shape != expected[name].shape
        ],
    }
    told = [f"{len(items)} {kind}: {_first(items)}" for kind, items in problems.items() if items]
    if told:
        raise ModelError(f"{path}: weights do not fit the {len(expected)} tensors of the net; {'; '.join(told)}")
    return found


def _read(path: Path, device: str) -> dict[str, Tensor]:
    """Read a file's state dict; on the device ``meta``, tensors have a shape and no content."""
    if not path.is_file():
        raise ModelError(f"{path}: no such weight file")
    if path.suffix == ".safetensors":
        try:
            if device == "cpu":
                return read_tensors(path)
            return {name: torch.empty(shape, device=device) for name, shape in read_shapes(path).items()}
        except FileError as error:
            raise ModelError(str(error)) from error
    if path.suffix not in {".pt", ".pth"}:
        raise ModelError(f"{path}: not a weight file by its ending; allowed: .safetensors, .pt, .pth")
    try:
        value: Any = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelError(f"{path}: damaged, or holds more than tensors and plain values; save a state dict") from error
    for key in _WRAPPERS:
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    if not isinstance(value, dict) or not all(isinstance(tensor, Tensor) for tensor in value.values()):
        raise ModelError(f"{path}: holds no state dict, neither bare nor as {' or '.join(map(repr, _WRAPPERS))}")
    return value


def _first(items: Iterable[str]) -> str:
    """Name the first few of many."""
    items = list(items)
    return ", ".join(items[:_NAMED]) + (", …" if len(items) > _NAMED else "")

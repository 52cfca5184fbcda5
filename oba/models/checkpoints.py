"""Reading state dicts from files: safetensors or PyTorch checkpoints, never pickled modules."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oba.errors import FileError, ModelError, explain_oserror
from oba.files import read_shapes, read_tensors

_PARALLEL = "module."
_AVERAGED = "n_averaged"


def read_state_dict(path: Path, device: str, entry: str | None = None) -> dict[str, Tensor]:
    """Read the weights in a file.

    A checkpoint may be a state dict, or have one as an entry (``{"model": …, "epoch": 3}``); if there are several,
    such as those of a model and of its moving average, ``entry`` says which. Names that all start with ``module.``, as
    nn.DataParallel and torch's AveragedModel leave them, lose that prefix, and AveragedModel's counter is left out.

    Args:
        path: A ``.safetensors``, ``.pt`` or ``.pth`` file.
        device: ``"cpu"``, or ``"meta"`` for tensors that have a shape and no content.
        entry: Entry of the checkpoint.

    Returns:
        Tensors by name.

    Raises:
        ModelError: If the file is missing, not readable without running code from it, or does not say which weights
            are meant.
    """
    if path.is_dir():
        raise ModelError(f"{path}: is a folder; allowed: a weight file (.safetensors, .pt, .pth)")
    if not path.is_file():
        raise ModelError(f"{path}: no such weight file")
    if path.suffix == ".safetensors":
        if entry is not None:
            raise ModelError(f"{path}: a safetensors file has no entry {entry!r}; allowed: no dense.weights")
        found = _read_safetensors(path, device)
    elif path.suffix in {".pt", ".pth"}:
        found = _chosen(path, _read_checkpoint(path, device), entry)
    else:
        raise ModelError(f"{path}: not a weight file by its ending; allowed: .safetensors, .pt, .pth")
    return _without_wrapper(found)


def _read_safetensors(path: Path, device: str) -> dict[str, Tensor]:
    try:
        if device == "cpu":
            return read_tensors(path)
        return {name: torch.empty(shape, device=device) for name, shape in read_shapes(path).items()}
    except FileError as error:
        raise ModelError(str(error)) from error


def _read_checkpoint(path: Path, device: str) -> Any:
    try:
        if device == "cpu":
            _check_sums(path)
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # what the unpickler makes of a text or a damaged file may be any error
        if isinstance(error, ModelError) or explain_oserror(error):
            raise
        raise ModelError(
            f"{path}: damaged, or holds more than dense tensors and plain values; save a state dict"
        ) from error


def _check_sums(path: Path) -> None:
    """Compare a checkpoint with the checksums that it has of its parts, as torch does not."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            wrong = next((name for name in names if names.count(name) > 1), None) or archive.testzip()
        if wrong:
            raise ModelError(f"{path}: damaged, {wrong} in it does not have its checksum; copy the file again")


def _chosen(path: Path, value: Any, entry: str | None) -> dict[str, Tensor]:
    """Return the state dict that a checkpoint is, or holds."""
    bare = _is_state_dict(value)
    inside = value.items() if isinstance(value, Mapping) and not bare else ()
    entries = {name: item for name, item in inside if isinstance(name, str) and _is_state_dict(item)}
    if not bare and not entries:
        raise ModelError(f"{path}: holds no state dict (tensors by name), neither bare nor as an entry")
    if entry is not None and entry not in entries:
        allowed = ", ".join(entries) or "no dense.weights, it is a state dict itself"
        raise ModelError(f"{path}: has no state dict as entry {entry!r}; allowed: {allowed}")
    if entry is None and len(entries) > 1:
        raise ModelError(
            f"{path}: holds several state dicts; allowed: one of them as dense.weights: {', '.join(entries)}"
        )
    found = value if bare else entries[entry or next(iter(entries))]
    for name, tensor in found.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.is_complex():
            raise ModelError(f"{path}: {name} is sparse, quantized, nested or complex; allowed: dense real tensors")
    return dict(found)


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def _without_wrapper(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the names that the tensors have in the net itself."""
    own = {name: tensor for name, tensor in found.items() if name != _AVERAGED}
    if own and all(name.startswith(_PARALLEL) for name in own):
        return {name.removeprefix(_PARALLEL): tensor for name, tensor in own.items()}
    return found

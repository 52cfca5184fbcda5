"""Weights from files, which must fit a net exactly, but for a classifier that is to be replaced."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from torch import Tensor, nn

from oba.errors import ModelError
from oba.models.attention import Attention
from oba.models.checkpoints import read_state_dict

_NAMED = 3


def load_weights(
    model: nn.Module,
    path: Path,
    *,
    entry: str | None = None,
    head: Collection[str] = (),
    replace_head: bool = False,
) -> None:
    """Load a file's weights into a net, which they must fit exactly.

    Args:
        model: The net; changed in place.
        path: A ``.safetensors``, ``.pt`` or ``.pth`` file.
        entry: Which of a checkpoint's state dicts.
        head: Names of the net's classifying layers.
        replace_head: Whether the file's classifier is left out, so that the net keeps its own.
    """
    found = _fitting(model, Path(path), "cpu", entry, head, replace_head)
    model.load_state_dict({**model.state_dict(), **found})


def check_weights(
    model: nn.Module,
    path: Path,
    *,
    entry: str | None = None,
    head: Collection[str] = (),
    replace_head: bool = False,
) -> None:
    """Refuse what :func:`load_weights` would refuse, reading only the names and shapes in a file.

    Args:
        model: The net; left as found.
        path: The file.
        entry: Which of a checkpoint's state dicts.
        head: Names of the net's classifying layers.
        replace_head: Whether the file's classifier is left out.
    """
    _fitting(model, Path(path), "meta", entry, head, replace_head)


def _fitting(
    model: nn.Module, path: Path, device: str, entry: str | None, head: Collection[str], replace_head: bool
) -> dict[str, Tensor]:
    """Return a file's tensors under the names that they have in the net, which they fit."""
    found = read_state_dict(path, device, entry)
    for prefix, module in model.named_modules():
        if isinstance(module, Attention):
            module.translate(found, f"{prefix}.")
    expected = model.state_dict()
    if replace_head:
        found, expected = (
            {name: tensor for name, tensor in tensors.items() if not _part_of(name, head)}
            for tensors in (found, expected)
        )
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    resized = [name for name in expected if name in found and found[name].shape != expected[name].shape]
    if resized and not missing and not unexpected and all(_part_of(name, head) for name in resized):
        theirs, ours = len(found[resized[0]]), len(expected[resized[0]])
        raise ModelError(
            f"{path}: its classifier ({', '.join(head)}) has {theirs} classes, but the data set has {ours}; allowed: "
            "dense.replace_head: true (a new classifier, to be trained), or a file of a net with as many classes"
        )
    sizes = [f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}" for name in resized]
    problems = {"missing": missing, "unexpected": unexpected, "of another size": sizes}
    told = [f"{len(items)} {kind}: {_first(items)}" for kind, items in problems.items() if items]
    if told:
        raise ModelError(f"{path}: weights do not fit the {len(expected)} tensors of the net; {'; '.join(told)}")
    return found


def _part_of(name: str, layers: Collection[str]) -> bool:
    """Tell whether a tensor belongs to one of some layers."""
    return name.rpartition(".")[0] in layers


def _first(items: list[str]) -> str:
    """Name the first few of many."""
    return ", ".join(items[:_NAMED]) + (", …" if len(items) > _NAMED else "")

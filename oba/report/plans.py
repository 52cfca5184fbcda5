"""Which layers a net has that channels can go from, and how many are left, from the stages' JSON files alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oba.errors import FileError
from oba.files import read_json
from oba.structures import OUT, groups_from_json


@dataclass(frozen=True)
class KeptChannels:
    """What a plan leaves of one layer's output channels.

    Attributes:
        kept: Number of channels left.
        dense: Number of channels in the dense net.
    """

    kept: int
    dense: int


@dataclass(frozen=True)
class Layer:
    """A layer whose output channels can go.

    Attributes:
        name: The layer; the first of a stream.
        channels: Number of channels that can go.
        coupled: Further layers that lose the same channels.
    """

    name: str
    channels: int
    coupled: tuple[str, ...]


def read_layers(path: Path) -> list[Layer]:
    """Read which layers' output channels can go.

    Args:
        path: A model's ``structures.json``.

    Returns:
        The layers in the order of the net.

    Raises:
        FileError: If the file is missing or damaged.
    """
    document = read_json(path)
    try:
        groups = groups_from_json(document)
        found: dict[str, Layer] = {}
        for group in groups:
            outputs = group.on_axis(OUT)
            if outputs:
                name, *coupled = (s.layer for s in outputs)
                positions = sum(len(row) for row in outputs[0].indices)
                before = found.get(name, Layer(name, 0, ()))
                joined = tuple(dict.fromkeys((*before.coupled, *coupled)))
                found[name] = Layer(name, before.channels + positions, joined)
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path}: not a list of structures ({type(error).__name__}: {error})") from error
    return list(found.values())


def read_channels(path: Path, layers: Iterable[Layer]) -> dict[str, KeptChannels]:
    """Read what a plan leaves of every layer whose outputs it touches.

    Args:
        path: A stage's ``plan.json``.
        layers: The layers of the dense net.

    Returns:
        Layer -> channels; layers that stay whole may be absent.

    Raises:
        FileError: If the file is missing or damaged, or names a layer that is not among ``layers``.
    """
    document = read_json(path)
    try:
        entries = document["plan"]["axes"]
        found = {e["layer"]: _channels(e) for e in entries if e["axis"] == OUT}
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path}: not a plan ({type(error).__name__}: {error})") from error
    known = {name for layer in layers for name in (layer.name, *layer.coupled)}
    for name in found:
        if name not in known:
            raise FileError(f"{path}: layer {name!r} is not in structures.json; both must come from one dense net")
    return found


def _channels(entry: dict[str, Any]) -> KeptChannels:
    """Count the kept positions of one axis, refusing what cannot be positions."""
    size, kept = entry["size"], entry["kept"]
    if not isinstance(kept, list) or not isinstance(size, int) or not all(isinstance(p, int) for p in kept):
        raise TypeError(f"layer {entry['layer']!r}: size and kept positions must be whole numbers")
    if not 0 < len(set(kept)) == len(kept) <= size or min(kept) < 0 or max(kept) >= size:
        raise ValueError(f"layer {entry['layer']!r}: kept positions must be distinct, one or more, below {size}")
    return KeptChannels(len(kept), size)

"""Splits on disk: a small JSON file, and beside it one byte per image, with a digest of both."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from oba.data.arrays import load_array, save_array
from oba.data.types import PARTS, Splits
from oba.errors import FileError
from oba.files import read_record, write_record


class _Head(BaseModel):
    """What the JSON file says."""

    model_config = ConfigDict(strict=True, extra="forbid")

    seed: int
    data: str
    digest: str
    sizes: dict[str, int]
    mean: list[float]
    std: list[float]


def parts_file(path: Path) -> Path:
    """Return the file that lies beside a JSON file of splits."""
    return path.with_suffix(".npy")


def write_splits(path: Path, splits: Splits) -> None:
    """Write splits.

    Args:
        path: The JSON file.
        splits: How a data set is divided.
    """
    counts = np.bincount(splits.parts, minlength=len(PARTS)).tolist()
    sizes = {str(name): count for name, count in zip(PARTS, counts, strict=True)}
    save_array(parts_file(path), splits.parts)
    digest = _digest(splits)
    head = _Head(seed=splits.seed, data=splits.data, digest=digest, sizes=sizes, mean=splits.mean, std=splits.std)
    write_record(path, head)


def read_splits(path: Path) -> Splits:
    """Read what :func:`write_splits` wrote.

    Args:
        path: The JSON file.

    Returns:
        The splits.

    Raises:
        FileError: If one of the files is missing or damaged, or they do not belong together.
    """
    head = read_record(path, _Head)
    parts = load_array(parts_file(path), (sum(head.sizes.values()),), np.dtype(np.uint8), path.name)
    if np.bincount(parts, minlength=len(PARTS)).tolist() != [head.sizes.get(name) for name in PARTS]:
        raise FileError(f"{parts_file(path)}: the parts do not have the sizes that {path.name} says; split again")
    splits = Splits(head.seed, np.array(parts), head.mean, head.std, head.data)
    if _digest(splits) != head.digest:
        raise FileError(f"{path}: it, or {parts_file(path).name} beside it, is not what was drawn; split again")
    return splits


def _digest(splits: Splits) -> str:
    """Return the digest of everything that splits say: an image that has moved to another part changes it."""
    facts = json.dumps([splits.seed, splits.data, splits.mean, splits.std])
    return hashlib.sha256(facts.encode() + splits.parts.tobytes()).hexdigest()[:16]

"""Identical images in different parts of a data set: a test image that also trains is no test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from oba.data.store import Prepared, digest_of
from oba.errors import DataError

_NAMED = 10


@dataclass(frozen=True)
class Duplicates:
    """How many images of one part also lie in another."""

    counts: dict[str, int]
    """By pair of parts: ``{"test in train": 3}`` says that three test images are also training images."""
    examples: list[str]
    """The first ten, by name: ``"test/cat/1.png in test = train/dog/7.png in train"``."""


def find_duplicates(
    prepared: Prepared, parts: Mapping[str, Sequence[int] | np.ndarray], rule: Literal["warn", "error"]
) -> Duplicates:
    """Count the images that lie in more than one part.

    Images are identical if a net sees the same pixels (where they are stored decoded) or if their files have the
    same bytes (where they stay files).

    Args:
        prepared: The opened data set.
        parts: Indices by the part's name, the part that trains first.
        rule: ``data.duplicates``.

    Returns:
        The counts of all pairs of parts, and examples.

    Raises:
        DataError: If there are any and the rule is ``error``.
    """
    contents = _contents(prepared)
    counts: dict[str, int] = {}
    examples: list[str] = []
    for (first, one), (second, other) in combinations(parts.items(), 2):
        known, asked = np.asarray(one, dtype=np.int64), np.asarray(other, dtype=np.int64)
        twins = np.full(contents.max() + 1, -1)
        twins[contents[known[::-1]]] = known[::-1]  # of several, the first one's index stays
        found = twins[contents[asked]]
        same = found >= 0
        counts[f"{second} in {first}"] = int(same.sum())
        examples += [
            f"{_name(prepared, index)} in {second} = {_name(prepared, twin)} in {first}"
            for index, twin in zip(asked[same][:_NAMED], found[same], strict=False)
        ]
    duplicates = Duplicates(counts, examples[:_NAMED])
    if rule == "error" and examples:
        pairs = ", ".join(f"{count} {pair}" for pair, count in counts.items() if count)
        raise DataError(
            f"data.duplicates: identical images ({pairs}): {'; '.join(duplicates.examples)}; remove them, or allow "
            "them with `duplicates: warn`"
        )
    return duplicates


def _contents(prepared: Prepared) -> np.ndarray:
    """Number the images so that equal numbers are equal images."""
    if prepared.images is not None:
        digests = np.frombuffer(b"".join(digest_of(image.tobytes()) for image in prepared.images), dtype=np.uint64)
    else:
        assert prepared.files is not None
        digests = np.ascontiguousarray(prepared.files.digests).view(np.uint64).ravel()
    return np.unique(digests, return_inverse=True)[1]


def _name(prepared: Prepared, index: int) -> str:
    return f"image {index}" if prepared.files is None else prepared.files.names[index]

"""Names of many files as two arrays.

A list of a million strings takes 100 MB, and every process that is forked beside it copies what it only looks at,
because looking counts references inside of each string. Arrays do neither, and lie mapped into memory from a file.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Names:
    """Names by index."""

    text: np.ndarray
    """All names one after another: uint8, as the file system encodes them."""
    ends: np.ndarray
    """(N,) int64: where each name ends in ``text``."""

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """Pack names.

        Args:
            names: Any text that may be a file's name.

        Returns:
            The same as arrays.
        """
        text, ends = bytearray(), array("q")
        for name in names:
            text += os.fsencode(name)
            ends.append(len(text))
        return cls(np.frombuffer(bytes(text), dtype=np.uint8), np.array(ends, dtype=np.int64))

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        """Return one name."""
        start = int(self.ends[index - 1]) if index else 0
        return os.fsdecode(self.text[start : int(self.ends[index])].tobytes())

"""A cache on disk that processes share, of values that follow from their key alone and take time to compute.

Only the standard library is imported here. A lost, damaged or unwritable file costs that time again and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def cache_folder() -> Path | None:
    """Return where the files lie: in the user's own cache folder; None for a user without one."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "oba")
    return folder if folder.is_absolute() else None


class Cache:
    """Plain values by key, in a file of :func:`cache_folder`."""

    def __init__(self, name: str, *, most: int = 5000) -> None:
        """Read the entries.

        Args:
            name: Of the file, without suffix: one for each way of computing the values.
            most: Entries in one file; with more, only those of the process that writes stay.
        """
        self._most = most
        folder = cache_folder()
        self._path = folder / f"{name}.json" if folder else None
        self._known = self._read()
        self._new: dict[str, Any] = {}

    def value(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return the value of a key.

        Args:
            key: Whatever the value follows from, or its digest.
            compute: Called if there is no entry; returns what JSON can hold.

        Returns:
            The value, as JSON gives it back.
        """
        if key not in self._known:
            self._known[key] = self._new[key] = json.loads(json.dumps(compute()))
        return self._known[key]

    def save(self) -> None:
        """Write what is new beside what others have written meanwhile."""
        if not self._new or self._path is None:
            return
        entries = self._read() | self._new
        text = json.dumps(entries if len(entries) <= self._most else self._new)
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            try:
                with open(handle, "w", encoding="utf-8") as stream:
                    stream.write(f"{_digest(text)}\n{text}")
                os.replace(part, self._path)
            except OSError:
                os.unlink(part)
        self._new = {}

    def _read(self) -> dict[str, Any]:
        """Return the entries in the file; none if it is not as it was written."""
        try:
            digest, _, text = self._path.read_text(encoding="utf-8").partition("\n") if self._path else ("", "", "")
        except (OSError, ValueError):
            return {}
        return json.loads(text) if digest == _digest(text) else {}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

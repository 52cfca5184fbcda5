"""Snapshots of an unfinished job: what it has computed so far, so that a killed one goes on from there.

A snapshot is two files: ``<name>.safetensors`` and, once that is complete, ``<name>.json``, with the digest of the
former and one of itself: whatever changes in either is noticed. The last two are kept; if the newest one turns out
damaged, the one before it serves.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oba import ranks
from oba.errors import FileError
from oba.files import digest_file, digest_json, read_json, read_tensors, write_json, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """What was saved.

    Attributes:
        name: Its files' name, without the ending.
        value: Plain values.
        tensors: Tensors by name, on the CPU.
    """

    name: str
    value: dict[str, Any]
    tensors: dict[str, Tensor]


class Snapshots:
    """The snapshots of one job; of several ranks, the first one writes, and all read the same."""

    def __init__(self, directory: Path, prefix: str, key: str, what: str) -> None:
        """Name the place.

        Args:
            directory: Where; nothing else may write files there that begin with ``prefix``.
            prefix: What names of snapshots begin with. In the order of the alphabet they are in the order of time.
            key: Names what the job depends on; only a snapshot with the same key is loaded again.
            what: What is saved, for messages: ``state of training``.
        """
        self._directory, self._prefix, self._key, self._what = Path(directory), prefix, key, what
        self._last: str | None = None
        self._failing = False

    def load(self) -> Snapshot | None:
        """Read the newest sound snapshot; damaged ones and those of other settings are named in the log.

        Returns:
            The snapshot, or None if there is none.
        """
        found = self._newest() if ranks.is_main() else None
        self._last = ranks.broadcast(found.name if found else None)
        if self._last is None or found is not None:
            return found
        return self._read(self._path(self._last))

    def save(self, name: str, value: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
        """Write a snapshot, atomically, and drop all but the one before it.

        A job that has saved once goes on where it cannot save again, because the disk is full for example: what it
        computes is not lost yet. The log tells it once, until it succeeds again.

        Args:
            name: Begins with the prefix.
            value: Plain values.
            tensors: Tensors by name, on any device.

        Returns:
            Whether it is safe; true on ranks that write nothing.

        Raises:
            FileError: If the job has saved nothing yet, and cannot.
            OSError: Likewise, for causes that are not explained.
        """
        if not ranks.is_main():
            return True
        path = self._path(name)
        try:
            write_tensors(path.with_suffix(".safetensors"), tensors)
            content = {"key": self._key, "tensors": digest_file(path.with_suffix(".safetensors")), **value}
            write_json(path, {"digest": digest_json(content), **content})
        except (FileError, OSError) as error:
            if self._last is None:
                raise
            if not self._failing:
                _log.warning("%s not saved, going on without: %s", self._what, error)
            self._failing = True
            return False
        for other in self._files():
            if other.stem not in {name, self._last}:
                other.unlink(missing_ok=True)
        self._last, self._failing = name, False
        return True

    def _newest(self) -> Snapshot | None:
        for path in sorted(self._directory.glob(f"{self._prefix}*.json"), reverse=True):
            try:
                return self._read(path)
            except (FileError, OSError) as error:
                _log.warning("%s not used: %s", self._what, error)
        return None

    def _read(self, path: Path) -> Snapshot:
        """Read a snapshot and check that it is whole and belongs to this job."""
        content = read_json(path)
        digest = content.pop("digest", None) if isinstance(content, dict) else None
        if digest is None or digest != digest_json(content):
            raise FileError(f"{path}: damaged, its digest is not the recorded one")
        if content.pop("key") != self._key:
            raise FileError(f"{path}: saved by a job with other settings")
        tensors = path.with_suffix(".safetensors")
        if digest_file(tensors) != content.pop("tensors"):
            raise FileError(f"{tensors}: damaged, its digest is not the recorded one")
        return Snapshot(path.stem, content, read_tensors(tensors))

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _files(self) -> list[Path]:
        """List the files of snapshots, with the partial ones that a kill leaves behind."""
        return [*self._directory.glob(f"{self._prefix}*.*"), *self._directory.glob(f".{self._prefix}*.part")]

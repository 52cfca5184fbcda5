"""A cheap fingerprint of a source's files, which changes when their names or contents do.

Nothing is read for it before a data set is prepared: names, sizes and modification times make the first fingerprint.
``prepare``, which reads every file anyway, then leaves their digests in a cache, together with the fingerprint that it
ran under (:func:`remember_images`). From then on contents decide: while they stay what they were, so does that
fingerprint. Only a file whose time has changed, and not its size, is read again.
"""

from __future__ import annotations

import hashlib
import os
import time
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from oba import registry
from oba.data.names import Names
from oba.data.regular import open_regular
from oba.data.store import DIGEST_BYTES, usable_cpus
from oba.data.types import ArraySource, ImageFiles
from oba.datasets import DataConfig
from oba.errors import FileError
from oba.files import write_atomic

_UNSETTLED = 2_000_000_000
"""Nanoseconds in which a file may change twice and keep its time: the coarsest clock of a common file system."""
_NO_TIME = -1
"""Stored as the time of a file that must be read again on the next call."""
_CHUNK, _BLOCK = 512, 1 << 16


@dataclass(frozen=True, eq=False)
class FileStates:
    """What there is to know of a source's files without their contents."""

    root: str
    """Absolute folder that names are relative to."""
    names: Names
    """Names by index."""
    labels: np.ndarray
    """Labels by index where single files have some, which may be written elsewhere than in their names."""
    sizes: np.ndarray
    """(N,) int64: bytes of each file; -1 for what is not there."""
    times: np.ndarray
    """(N,) int64: modification times in nanoseconds; -1 for what is not there."""

    def digest(self, *more: bytes) -> str:
        """Return the digest of all of this except the root, and of more."""
        sha = hashlib.sha256()
        for part in (self.names.ends, self.names.text, self.labels, self.sizes, self.times):
            sha.update(np.ascontiguousarray(part).data)
        for content in more:
            sha.update(content)
        return sha.hexdigest()[:16]

    def same_files(self, other: FileStates) -> bool:
        """Tell whether root, names, labels and sizes are the same."""
        return self.root == other.root and all(
            np.array_equal(ours, theirs)
            for ours, theirs in (
                (self.names.ends, other.names.ends),
                (self.names.text, other.names.text),
                (self.labels, other.labels),
                (self.sizes, other.sizes),
            )
        )


def fingerprint(data: DataConfig, cache: Path) -> str:
    """Return the fingerprint of the files that a data set is read from.

    Args:
        data: Which data set, from where.
        cache: The file that ``prepare`` left, if the data set was prepared before.

    Returns:
        16 hexadecimal digits; empty for a source without files. While the cache is there, they are the same as when
        it was prepared if, and only if, names and contents are.

    Raises:
        ConfigError: If there is no such data set, or its ``root`` is not given.
        DataError: If the folder is missing or not laid out as the source expects.
    """
    source: ArraySource | ImageFiles = registry.load("data set", data.name).open_source(data)
    if not source.files:
        return ""
    started = time.time_ns()
    states = _look(source)
    known = _load(cache)
    if known is None or not states.same_files(known[1]):
        return states.digest()
    seen, before, digests = known
    touched = np.flatnonzero(states.times != before.times)
    if not len(touched):
        return seen
    found = _digest_files(states, touched)
    unknown = ~digests[touched].any(axis=1)
    changed = touched[(found != digests[touched]).any(axis=1) | unknown]
    if len(changed):
        return states.digest(changed.tobytes(), found[np.isin(touched, changed)].tobytes())
    _write(cache, seen, states, digests, started)
    return seen


def remember_images(
    cache: Path,
    seen: str,
    source: ArraySource | ImageFiles,
    started: int,
    sizes: np.ndarray,
    times: np.ndarray,
    digests: np.ndarray,
) -> None:
    """Note what was read of image files, for later fingerprints.

    Args:
        cache: The file to write. Where it cannot be written nothing happens: results can still be looked at.
        seen: The fingerprint that these contents have from now on.
        source: The source.
        started: The time in nanoseconds before the first file was looked at.
        sizes: (N,) int64 in bytes.
        times: (N,) int64: modification times in nanoseconds, from before each file was read.
        digests: (N, 8) uint8: what was read.
    """
    _write(cache, seen, _states(source, sizes, times), digests, started)


def remember_arrays(cache: Path, seen: str, source: ArraySource, started: int) -> None:
    """Note what the files of a source of arrays hold, after it has read them its own way.

    Args:
        cache: The file to write, as :func:`remember_images` does.
        seen: The fingerprint that these contents have from now on.
        source: The source; without files there is nothing to note.
        started: The time in nanoseconds before the first file was looked at.
    """
    if source.files:
        states = _look(source)
        digests = _digest_files(states, np.arange(len(source.files)))
        # Who knows whether the source has seen the change.
        digests = np.where(states.times[:, None] > started - _UNSETTLED, 0, digests).astype(np.uint8)
        _write(cache, seen, states, digests, started)


def _write(cache: Path, seen: str, states: FileStates, digests: np.ndarray, started: int) -> None:
    times = np.where(states.times > started - _UNSETTLED, _NO_TIME, states.times)
    names, labels, sizes = states.names, states.labels, states.sizes

    def write(path: Path) -> None:
        with path.open("wb") as stream:
            np.savez(
                stream,
                seen=seen,
                root=states.root,
                text=names.text,
                ends=names.ends,
                labels=labels,
                sizes=sizes,
                times=times,
                digests=digests,
            )

    with suppress(FileError, OSError):
        write_atomic(cache, write)


def _states(source: ArraySource | ImageFiles, sizes: np.ndarray, times: np.ndarray) -> FileStates:
    labels = source.labels if isinstance(source, ImageFiles) else np.zeros(0, dtype=np.int64)
    return FileStates(os.path.abspath(source.root.expanduser()), Names.of(source.files), labels, sizes, times)


def _digest_files(states: FileStates, indices: np.ndarray) -> np.ndarray:
    """Read some files; return their digests, (n, 8) uint8: zeros where one cannot be read."""
    digests = np.zeros((len(indices), DIGEST_BYTES), dtype=np.uint8)

    def digest(row: int) -> None:
        content = _digest(f"{states.root}/{states.names[int(indices[row])]}")
        digests[row] = np.frombuffer(content, dtype=np.uint8)

    _in_threads(digest, len(indices), f"looking for changes in {states.root}")
    return digests


def _look(source: ArraySource | ImageFiles) -> FileStates:
    """Ask the file system about all files of a source."""
    root, names = os.path.abspath(source.root.expanduser()), source.files
    sizes, times = array("q", [-1]) * len(names), array("q", [_NO_TIME]) * len(names)

    def stat(index: int) -> None:
        with suppress(OSError):  # such as a link to nowhere: `prepare` reports all of them together
            status = os.stat(f"{root}/{names[index]}")
            sizes[index], times[index] = status.st_size, status.st_mtime_ns

    _in_threads(stat, len(names), f"listing {root}")
    return _states(source, np.array(sizes, dtype=np.int64), np.array(times, dtype=np.int64))


def _load(cache: Path) -> tuple[str, FileStates, np.ndarray] | None:
    """Read what was noted; nothing if it is not there or damaged."""
    try:
        with cache.open("rb") as stream, np.load(stream) as found:
            names = Names(found["text"], found["ends"])
            states = FileStates(str(found["root"]), names, found["labels"], found["sizes"], found["times"])
            return str(found["seen"]), states, found["digests"]
    except Exception:  # what numpy and zipfile make of damage may be any error, and without a cache all is read again
        return None


def _in_threads(work: Callable[[int], None], count: int, what: str) -> None:
    """Do something that waits for the file system for every index."""

    def chunk(start: int) -> int:
        rows = range(start, min(start + _CHUNK, count))
        for row in rows:
            work(row)
        return len(rows)

    with (
        ThreadPoolExecutor(min(32, 2 * usable_cpus())) as pool,
        tqdm(total=count, desc=what, unit="file", delay=2, disable=None) as bar,
    ):
        for done in pool.map(chunk, range(0, count, _CHUNK)):
            bar.update(done)


def _digest(path: str) -> bytes:
    """Return what ``digest_of`` would of the file's content; zeros if it cannot be read."""
    sha = hashlib.sha256()
    try:
        stream, _ = open_regular(path)
        with stream:
            while block := stream.read(_BLOCK):
                sha.update(block)
    except OSError:
        return bytes(DIGEST_BYTES)
    return sha.digest()[:DIGEST_BYTES]

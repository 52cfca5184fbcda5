"""One look at every image file: whether it can be decoded, its size, its digest."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from oba.data.images import MOST_PIXELS, bombs_refused, decoded_pixels, load, open_image
from oba.data.regular import MOST_BYTES, Budget, open_regular, read_whole
from oba.data.store import DIGEST_BYTES, digest_of, usable_cpus
from oba.data.types import ImageFiles
from oba.datasets import DataConfig
from oba.errors import DataError

Keep = Callable[[int, Image.Image], None]
"""Called with an image's index and the image; which is not there any more when it returns."""
_NAMED = 10
_CHUNK = 128
_BYTES, _PIXELS = Budget(MOST_BYTES), Budget(MOST_PIXELS)
"""What all threads together hold in memory: of files, and of decoded images, at up to 12 bytes a pixel."""


@dataclass(frozen=True, eq=False)
class Reads:
    """What one look at every image file tells, by index."""

    shapes: np.ndarray
    """(N, 2) int32: height and width."""
    grey: np.ndarray
    """(N,) bool."""
    sizes: np.ndarray
    """(N,) int64: bytes."""
    times: np.ndarray
    """(N,) int64: modification times in nanoseconds, from before the file was read."""
    digests: np.ndarray
    """(N, 8) uint8."""
    problems: dict[int, str] = field(default_factory=dict)
    """What is wrong with files that cannot be read."""

    @classmethod
    def of(cls, count: int) -> Reads:
        """Return place for some images."""
        sizes, times = np.zeros((2, count), dtype=np.int64)
        digests = np.zeros((count, DIGEST_BYTES), dtype=np.uint8)
        return cls(np.zeros((count, 2), dtype=np.int32), np.zeros(count, dtype=bool), sizes, times, digests)

    def note(self, row: int, seen: Seen | str) -> None:
        """Note what was seen of one image, or what is wrong with it."""
        if isinstance(seen, str):
            self.problems[row] = seen
            return
        self.shapes[row], self.grey[row], self.sizes[row], self.times[row] = seen[:4]
        self.digests[row] = np.frombuffer(seen.digest, dtype=np.uint8)


class Seen(NamedTuple):
    """What one look at an image file tells."""

    shape: tuple[int, int]
    grey: bool
    size: int
    time: int
    digest: bytes


def first_readable(source: ImageFiles) -> Seen:
    """Look at the first image that can be read; the others are expected to be like it.

    Args:
        source: The images.

    Returns:
        What was seen.

    Raises:
        DataError: If none can be read.
    """
    problems = {}
    for row in range(len(source.files)):
        with bombs_refused():
            seen = _see(source, row, None)
        if isinstance(seen, Seen):
            return seen
        problems[row] = seen
    raise DataError(_unreadable(source, problems))


def look(source: ImageFiles, config: DataConfig, keep: Keep | None = None) -> Reads:
    """Decode all images in parallel.

    Args:
        source: The images.
        config: Whether they must all have one size.
        keep: What is done with each, in a thread of its own.

    Returns:
        What was seen of each.

    Raises:
        DataError: If any cannot be read, or they differ in size: all problems at once.
    """
    count = len(source.files)

    def see_chunk(start: int) -> list[Seen | str]:
        return [_see(source, row, keep) for row in range(start, min(start + _CHUNK, count))]

    reads, row = Reads.of(count), 0
    # Threads suffice: reading, hashing, decoding and resizing free the interpreter's lock.
    with (
        bombs_refused(),
        ThreadPoolExecutor(min(32, usable_cpus())) as pool,
        tqdm(total=count, desc=f"reading {config.name}", unit="image", disable=None) as bar,
    ):
        for chunk in pool.map(see_chunk, range(0, count, _CHUNK)):
            for seen in chunk:
                reads.note(row, seen)
                row += 1
            bar.update(len(chunk))
    if reads.problems:
        raise DataError(_unreadable(source, reads.problems))
    if config.image_size is None and (reads.shapes != reads.shapes[0]).any():
        raise DataError(_differing(source, reads.shapes))
    return reads


def _see(source: ImageFiles, row: int, keep: Keep | None) -> Seen | str:
    """Read and decode one file, at the least scale where nobody keeps it; return what is wrong where something is."""
    try:
        stream, status = open_regular(source.root / source.files[row])
        with stream, _BYTES.taken(status.st_size):
            content = read_whole(stream, status)
            image = open_image(io.BytesIO(content))
            shape = image.height, image.width
            if keep is None:
                image.draft(None, (1, 1))
            with _PIXELS.taken(decoded_pixels(image, shape)):
                load(image)
                if keep is not None:
                    keep(row, image)
                image.close()
            return Seen(shape, image.mode == "L", len(content), status.st_mtime_ns, digest_of(content))
    except DataError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)


def _named(entries: list[str]) -> str:
    rest = len(entries) - _NAMED
    return ", ".join(entries[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _unreadable(source: ImageFiles, problems: dict[int, str]) -> str:
    bad = [f"{source.files[row]} ({problem})" for row, problem in problems.items()]
    return (
        f"data.root: {len(bad)} of {len(source.files)} images in {source.root} cannot be read: {_named(bad)}; "
        "replace or remove them"
    )


def _differing(source: ImageFiles, shapes: np.ndarray) -> str:
    height, width = shapes[0]
    rows = np.flatnonzero((shapes != shapes[0]).any(axis=1))
    others = [f"{source.files[row]} ({shapes[row, 1]}x{shapes[row, 0]})" for row in rows]
    return (
        f"data.image_size: not given, but images in {source.root} differ in size: {source.files[0]} is "
        f"{width}x{height}, {len(others)} are not: {_named(others)}; allowed: one size, or image_size to bring them to"
    )

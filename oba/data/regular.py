"""Reading files of strangers: regular files of a bounded size, nothing that blocks or never ends, and few at once."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from oba.errors import DataError

_MMAP_THRESHOLD, _LARGE_BLOCK = -3, 1 << 22
"""A setting of glibc's ``mallopt``, and its value in bytes."""
MOST_BYTES = 1 << 28
"""Bytes of the largest image file that is read (256 MiB)."""


def return_freed_memory() -> None:
    """Have glibc hand every large block back to the system, for the whole process.

    Otherwise it keeps what the largest images took, once for each thread that has decoded one. Does nothing where there
    is no glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BLOCK)


def open_regular(path: str | Path) -> tuple[BinaryIO, os.stat_result]:
    """Open a file for reading, links followed.

    Args:
        path: The file.

    Returns:
        The stream, and what the system says of the file.

    Raises:
        OSError: If it cannot be opened, or is no regular file: a folder, a pipe, a socket or a device.
    """
    # Without O_NONBLOCK, opening a pipe waits for somebody to write into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb", buffering=0), status


def read_whole(stream: BinaryIO, status: os.stat_result) -> bytes:
    """Read all of an image file.

    Args:
        stream: As :func:`open_regular` returned it.
        status: What the system said of it.

    Returns:
        Its content.

    Raises:
        DataError: If it is larger than :data:`MOST_BYTES`, or is written at the moment; without the file's name.
    """
    if status.st_size > MOST_BYTES:
        raise DataError(f"{status.st_size:,} bytes, but at most {MOST_BYTES:,} are read")
    content = stream.read(status.st_size + 1) or b""
    if len(content) != status.st_size:
        raise DataError(f"{status.st_size:,} bytes, but {len(content):,} were read; it changed meanwhile")
    return content


class Budget:
    """An amount that threads divide among themselves: who needs more than is left waits."""

    def __init__(self, amount: int) -> None:
        self._amount = self._left = amount
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, part: int) -> Iterator[None]:
        """Hold a part, or all of it where the part is larger.

        Args:
            part: How much.

        Yields:
            Nothing.
        """
        part = min(part, self._amount)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= part)
            self._left -= part
        try:
            yield
        finally:
            with self._changed:
                self._left += part
                self._changed.notify_all()

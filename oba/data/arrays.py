"""Arrays on disk, written atomically and read as memory maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from oba.errors import FileError
from oba.files import write_atomic


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array as a ``.npy`` file, atomically.

    Args:
        path: The file.
        array: The array.
    """

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.save(stream, array)

    write_atomic(path, write)


def load_array(path: Path, shape: tuple[int, ...], dtype: np.dtype, said_by: str) -> np.ndarray:
    """Map a ``.npy`` file into memory and check its kind.

    Args:
        path: The file.
        shape: What its shape must be; -1 for any length.
        dtype: What its type must be.
        said_by: The file that says so, for the message.

    Returns:
        The array; read-only, and read from disk only where it is looked at.

    Raises:
        FileError: If the file is missing or damaged, or holds something else.
    """
    try:
        # Not np.load, which takes archives as well.
        array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file; make it again") from error
    except Exception as error:  # what numpy's reader of headers makes of damage may be any error
        if isinstance(error, OSError):
            raise
        reason = " ".join(str(error).split())
        raise FileError(f"{path}: not a readable array ({reason}); make it again") from error
    fits = len(array.shape) == len(shape) and all(
        want in {-1, got} for got, want in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype != dtype:
        raise FileError(f"{path}: {array.dtype} {array.shape}, but {said_by} says {dtype} {shape}; make it again")
    return array

"""Atomic, typed reading and writing of stage outputs, and their digests.

Nothing is ever half-written: every file appears under its name complete, by renaming.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from oba.errors import FileError, explain_oserror
from oba.identity import is_main

if TYPE_CHECKING:
    from torch import Tensor

R = TypeVar("R", bound=BaseModel)


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk and rename it into place.

    Of the ranks of a job only the first writes; on others this does nothing.

    Args:
        path: The final name; missing folders are made.
        write: Called with the temporary path.

    Raises:
        FileError: If the disk is full, read-only or failing, or the folder may not be written.
    """
    if not is_main():
        return
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except Exception as error:
        named = getattr(error, "filename", None)
        temporary_or_none = named is None or Path(named).parent == path.parent
        if explained := explain_oserror(error, path if temporary_or_none else None):
            raise explained from error
        raise


def remove_partial(path: Path) -> None:
    """Delete what processes that were killed while they wrote a file have left beside it.

    Args:
        path: The file; the caller holds the lock under which it is written.
    """
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text atomically.

    Args:
        path: The file.
        text: Its content.
    """
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically; NaN and infinity are refused.

    Args:
        path: The file.
        value: Plain values.
    """
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Args:
        path: The file.

    Returns:
        The parsed value.

    Raises:
        FileError: If the file is missing or damaged.
    """
    with _reading(path):
        try:
            return json.loads(Path(path).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise FileError(f"{path}: not valid JSON ({error})") from error


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record as a JSON file, atomically.

    Args:
        path: The file.
        record: One of :mod:`oba.records`.
    """
    write_json(path, record.model_dump(mode="json"))


def read_record(path: Path, kind: type[R]) -> R:
    """Read a record that :func:`write_record` wrote.

    Args:
        path: The file.
        kind: Its class.

    Returns:
        The record.

    Raises:
        FileError: If the file is missing or damaged, or holds something else; one line with the first wrong key.
    """
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        raise FileError(f"{path}: {explain_record(error)}") from error


def explain_record(error: ValidationError) -> str:
    """Say in one line what the first wrong value of a record is, and what may be there.

    Args:
        error: What the record's class raised.

    Returns:
        The line.
    """
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"])) or "the content"
    if first["type"] == "missing":
        return f"{key} is missing; the file is damaged or of another version"
    if first["type"] == "extra_forbidden":
        return f"{key} is unknown; the file is damaged or of another version"
    shown = repr(first["input"])
    shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
    return f"{key} is {shown}; expected {first['msg'].removeprefix('Input should be ')}"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> None:
    """Write named tensors as one safetensors file, atomically.

    Args:
        path: The file.
        tensors: The tensors; moved to the CPU, copied where they share memory.
        about: Values to keep in the header, as JSON under ``about``: of several keys the library would leave another
            order, so other bytes, each time.
    """
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    header = {"about": json.dumps(about, sort_keys=True)} if about else {}
    write_atomic(path, lambda temporary: save_file(plain, temporary, metadata=header))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Args:
        path: The file.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        FileError: If the file is missing or damaged, or its disk fails.
    """
    from safetensors.torch import load_file

    with _explained(path):
        return load_file(path)


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes in a safetensors file; its content is left where it is.

    Args:
        path: The file.

    Returns:
        Shapes by name.
    """
    from safetensors import safe_open

    with _explained(path), safe_open(path, "np") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say in one line why a safetensors file cannot be read."""
    from safetensors import SafetensorError

    with _reading(path):
        try:
            yield
        except SafetensorError as error:
            raise FileError(f"{path}: not a readable safetensors file ({error})") from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say in one line that a file is not there, or that its disk fails; such an error does not always name it."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file; the stage that makes it has not run") from error
    except OSError as error:
        if explained := explain_oserror(error, path):
            raise explained from error
        raise


def digest_json(value: Any) -> str:
    """Return a short digest of plain values, the same for equal values.

    Args:
        value: Anything that JSON can hold.

    Returns:
        16 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def digest_file(path: Path) -> str:
    """Return a short digest of a file's bytes.

    Args:
        path: The file.

    Returns:
        16 hexadecimal digits.

    Raises:
        FileError: If the file is missing, or its disk fails.
    """
    with _reading(path), Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


@contextmanager
def locked(directory: Path, name: str = ".lock", *, wait: bool = True) -> Iterator[bool]:
    """Hold a directory's lock, waiting for whoever holds it; the kernel frees it when a process dies.

    Args:
        directory: The directory to own; made if missing.
        name: The lock's own name.
        wait: Whether to wait; otherwise go on without the lock where somebody holds it.

    Yields:
        Whether the lock is held.
    """
    from filelock import FileLock, Timeout

    Path(directory).mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(directory) / name, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()

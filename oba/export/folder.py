"""The folder of an export: it appears complete under its name, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oba.errors import ConfigError, explain_oserror
from oba.export.formats import CARD, FILES, METADATA

_OURS = {*FILES.values(), "model.onnx.data", "plan.json", METADATA, CARD}
"""Names that an export may leave."""


@contextmanager
def new_folder(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """Fill a temporary folder and rename it into place when the block ends without an error.

    Args:
        output: The folder's final name; missing parents are made.
        overwrite: Whether an earlier export there may be replaced.

    Yields:
        The temporary folder, beside the final one.

    Raises:
        FileError: If the disk is full, read-only or failing, or the folder may not be written.
        OSError: If the system refuses for another reason.
    """
    output = output.resolve()
    _check_free(output, overwrite=overwrite)
    existing = next(parent for parent in output.parents if parent.exists())
    part = Path(tempfile.mkdtemp(dir=existing, prefix=f".{output.name}.", suffix=".part"))
    try:
        yield part
        for path in part.iterdir():
            with path.open("rb+") as stream:
                os.fsync(stream.fileno())
        part.chmod(0o755)
        _check_free(output, overwrite=overwrite)
        output.parent.mkdir(parents=True, exist_ok=True)
        _replace(part, output)
    except OSError as error:
        if explained := explain_oserror(error, output):
            raise explained from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check_free(output: Path, *, overwrite: bool) -> None:
    """Refuse a place that is taken by anything but what may be replaced."""
    nearest = next(path for path in (output, *output.parents) if path.exists())
    if not nearest.is_dir():
        raise ConfigError(f"--output: {nearest} is a file; allowed: a folder, new or empty")
    found = {path.name for path in output.iterdir()} if nearest == output else set()
    if not found:
        return
    # Deleting is for what an export wrote: a mistyped path must not cost anybody a folder.
    if foreign := sorted(found - _OURS) or ([] if METADATA in found else sorted(found)):
        raise ConfigError(
            f"--output: {output} holds {foreign[0]!r}, which no export left there; "
            "allowed: a new or empty folder, or with --overwrite one that an export wrote"
        )
    if not overwrite:
        raise ConfigError(f"--output: {output} holds an earlier export; allowed: another folder, or --overwrite")


def _replace(part: Path, output: Path) -> None:
    """Rename a folder to a name that may be taken; what was there stays until the new one is in place."""
    old = part.with_suffix(".old")
    if output.exists():
        output.rename(old)
    try:
        part.rename(output)
    except OSError:
        if old.exists():
            old.rename(output)
        raise
    shutil.rmtree(old, ignore_errors=True)

"""Finished work that survives the deletion of its files.

A killed Snakemake leaves its jobs running. When it starts again, it deletes the outputs of every job that it did
not see end, also of one that has finished meanwhile. So a finished job keeps its outputs a second time, out of
Snakemake's sight. Small files are copied, so that damage to one of the two leaves the other; hard links of large ones
cost no space, and are for files that were deleted or replaced.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from oba.errors import FileError
from oba.files import digest_file, read_json, write_atomic, write_json

_log = logging.getLogger(__name__)
_DIGESTS = "digests.json"
COPIED = 1 << 20
"""Bytes up to which a file is copied: plans, metrics, labels, small nets."""


def keep(outputs: Sequence[Path], folder: Path) -> bool:
    """Keep the outputs of a finished job, all or none.

    The folder appears under its name complete, by renaming, with a digest of each file.

    Args:
        outputs: The job's files, complete; they are replaced from now on, never written in place.
        folder: Where to keep them; what it held goes. It belongs to this job and key alone, and the caller holds
            the job's lock.

    Returns:
        Whether they were kept. If not, a warning says why: a file is gone already, or the disk is full.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        for output, kept in zip(outputs, _kept(outputs, part), strict=True):
            _second(output, kept)
        write_json(part / _DIGESTS, _digests(_kept(outputs, part)))
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except (FileError, OSError) as error:
        _log.warning("outputs not kept for a restart: %s", error)
        shutil.rmtree(part, ignore_errors=True)
        return False
    return True


def restore(outputs: Sequence[Path], folder: Path) -> bool:
    """Put kept outputs back, in their order, with the present time so that they are newer than the job's inputs.

    Args:
        outputs: The job's files, as they were kept; those that exist are replaced.
        folder: Where they may be kept.

    Returns:
        Whether all are back. If not, nothing was changed, and a warning says what was damaged, if anything was.
    """
    if not folder.is_dir():
        return False
    kept = _kept(outputs, folder)
    try:
        _check(kept, folder)
    except (FileError, OSError) as error:
        _log.warning("finished work not used: %s", error)
        return False
    for source, output in zip(kept, outputs, strict=True):
        os.utime(source)
        put_back(source, output)
    return True


def intact(output: Path, base: Path, digest: str | None = None) -> Path | None:
    """Find the kept copy of an output.

    Args:
        output: The output.
        base: The job's folder of state.
        digest: What the copy must be; what it was when it was kept, if not given.

    Returns:
        The copy, or None if there is none, or it is damaged as well.
    """
    for folder in base.glob("*-finished"):
        try:
            digests = read_json(folder / _DIGESTS)
            for path in folder.glob(f"*-{output.name}"):
                if digest_file(path) == (digest or digests.get(path.name)):
                    return path
        except (FileError, AttributeError) as error:
            _log.warning("finished work not used: %s", error)
    return None


def kept_files(folder: Path) -> list[tuple[Path, str]]:
    """Return what is kept of a job, without reading it.

    Args:
        folder: Where :func:`keep` kept it.

    Returns:
        The files in the order of the outputs, each with the digest that it must have.

    Raises:
        FileError: If the list of digests is missing or damaged.
    """
    digests = read_json(folder / _DIGESTS)
    try:
        numbered = sorted((int(name.partition("-")[0]), name, str(digest)) for name, digest in digests.items())
    except (AttributeError, ValueError) as error:
        raise FileError(f"{folder / _DIGESTS}: damaged, or not a list of kept files") from error
    return [(folder / Path(name).name, digest) for _, name, digest in numbered]


def put_back(kept: Path, output: Path) -> None:
    """Give an output its name again, and the time that it had.

    Args:
        kept: A copy that :func:`keep` made.
        output: The output; one that exists is replaced.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    second = output.with_name(f".{output.name}.kept")
    second.unlink(missing_ok=True)
    _second(kept, second)
    second.replace(output)
    second.unlink(missing_ok=True)  # two names of one file: POSIX leaves both


def _kept(outputs: Sequence[Path], folder: Path) -> list[Path]:
    """Return the names of kept files: numbered, because outputs of several folders may have one name."""
    return [folder / f"{number}-{output.name}" for number, output in enumerate(outputs)]


def _digests(kept: Sequence[Path]) -> dict[str, str]:
    return {path.name: digest_file(path) for path in kept}


def _check(kept: Sequence[Path], folder: Path) -> None:
    if read_json(folder / _DIGESTS) != _digests(kept):
        raise FileError(f"{folder}: damaged, its files are not those that were kept")


def _second(source: Path, target: Path) -> None:
    """Make a file a second time, of the same age: a copy where it is small, or links are not allowed, else a link."""
    status = source.stat()
    if status.st_size > COPIED:
        with suppress(OSError):
            target.hardlink_to(source)
            return
    write_atomic(target, partial(shutil.copyfile, source))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))

"""A report is made again by one process at a time; one that could not be made says so, and is made by the next run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oba.errors import ObaError
from oba.files import locked, write_text

_MARK = "> **Out of date:** "


@contextmanager
def rewriting(directory: Path, state: Path) -> Iterator[None]:
    """Have the report for oneself, and mark the one that stands if it cannot be made again.

    Args:
        directory: The directory of the report; what processes that were killed left half-written in it is deleted.
        state: The directory of its lock.

    Yields:
        Nothing.

    Raises:
        ObaError: What went wrong.
    """
    with locked(state):
        for part in directory.glob(".*.part"):
            part.unlink()
        try:
            yield
        except ObaError as error:
            _mark(directory / "summary.md", " ".join(str(error).split()))
            raise


def _mark(summary: Path, why: str) -> None:
    if summary.exists():
        text = summary.read_text(encoding="utf-8")
        rest = text.partition("\n\n")[2] if text.startswith(_MARK) else text
        write_text(summary, f"{_MARK}it could not be made again ({why}).\n\n{rest}")
        os.utime(summary, (1, 1))  # older than all that it is made from; a time of 0 is none to Snakemake

"""A report that could not be made again says so, and is made again by the next run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oba.errors import ObaError
from oba.files import write_text

_MARK = "> **Out of date:** "


@contextmanager
def marked_on_error(directory: Path) -> Iterator[None]:
    """Mark the report that stands if it cannot be made again.

    Args:
        directory: The directory of the report.

    Yields:
        Nothing.

    Raises:
        ObaError: What went wrong.
    """
    try:
        yield
    except ObaError as error:
        summary = directory / "summary.md"
        if summary.exists():
            text = summary.read_text(encoding="utf-8")
            rest = text.partition("\n\n")[2] if text.startswith(_MARK) else text
            why = " ".join(str(error).split())
            write_text(summary, f"{_MARK}it could not be made again ({why}).\n\n{rest}")
            os.utime(summary, (1, 1))  # older than all that it is made from; a time of 0 is none to Snakemake
        raise

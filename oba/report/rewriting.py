"""A report is made again by one process at a time; one that could not be made says so, and is made by the next run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

from oba.errors import ObaError
from oba.files import locked, write_text

_MARK = "> **Out of date:** "
_BANNER = ("<main>", '<p class="stale"><strong>Out of date:</strong> ', "</p><!-- /stale -->")
"""Where the page begins, and what a banner at its top begins and ends with."""


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
            _mark(directory, " ".join(str(error).split()))
            raise


def _mark(directory: Path, why: str) -> None:
    for name, mark in (("summary.md", _mark_text), ("index.html", _mark_page)):
        path = directory / name
        if path.exists():
            write_text(path, mark(path.read_text(encoding="utf-8"), f"it could not be made again ({why})."))
            os.utime(path, (1, 1))  # older than all that it is made from; a time of 0 is none to Snakemake


def _mark_text(text: str, words: str) -> str:
    rest = text.partition("\n\n")[2] if text.startswith(_MARK) else text
    return f"{_MARK}{words}\n\n{rest}"


def _mark_page(text: str, words: str) -> str:
    main, start, end = _BANNER
    before, _, rest = text.partition(main)
    if rest.startswith(start):
        rest = rest.partition(end)[2]
    return f"{before}{main}{start}{escape(words)}{end}{rest}"

"""How far a journal was sent, to which run of which store: a small file beside the journal.

A cursor that is damaged, or another store's, counts as none: then the store is asked what it has.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from oba.files import write_text
from oba.tracking.lines import seal, unseal

_OLD = {"store", "run", "offset"}


@dataclass(frozen=True)
class Cursor:
    """A cursor.

    Attributes:
        store: The store, as it may be shown.
        run: The run's id.
        offset: Position in the journal, in bytes.
        state: The run's status.
        key: What the run is found by.
        experiment: The id of the run's experiment.
        created: When that experiment was created, in milliseconds: another store has another one.
    """

    store: str
    run: str
    offset: int
    state: str = ""
    key: str = ""
    experiment: str = ""
    created: int = 0

    def write(self, journal: Path) -> None:
        """Write the cursor of a journal, atomically."""
        write_text(cursor_path(journal), seal(asdict(self)).decode() + "\n")


def cursor_path(journal: Path) -> Path:
    """Return where a journal's cursor lies."""
    return journal.with_name(f"{journal.name}.sent")


def read_cursor(journal: Path) -> Cursor | None:
    """Read a journal's cursor; one that an earlier version wrote says less, and has no checksum."""
    try:
        content = cursor_path(journal).read_bytes()
    except OSError:
        return None
    fields, sealed = unseal(content.removesuffix(b"\n"))
    if fields is None or (not sealed and fields.keys() != _OLD):
        return None
    try:
        cursor = Cursor(**fields)
    except TypeError:
        return None
    return cursor if isinstance(cursor.offset, int) and cursor.offset >= 0 else None

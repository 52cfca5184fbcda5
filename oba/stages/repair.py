"""Files that were lost or damaged since their job left them: put back where an intact copy was kept."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from oba.errors import FileError
from oba.files import digest_file, locked
from oba.layout import Coordinates, Layout
from oba.made import read_run, record_of
from oba.records import JobRecord
from oba.stages.finished import intact, put_back

_REPORTED = ("evaluation.json", "metrics.json", "plan.json", "history.csv")
_log = logging.getLogger(__name__)


def checked(path: Path, layout: Layout) -> str:
    """Return the digest of a file that a job reads, after comparing it with what its maker's record says.

    A file that was lost or damaged is put back, with a warning, if an intact copy was kept.

    Args:
        path: The file. One beside which no record lies comes from elsewhere, and is believed.
        layout: The experiment's paths.

    Returns:
        The digest.

    Raises:
        FileError: If the file is missing or damaged, and there is no intact copy. A damaged one has been moved aside,
            so that the next run makes it again.
    """
    record = record_of(path)
    if record is None:
        return digest_file(path)
    try:
        run, digest = read_run(record), digest_file(path)
        if run.outputs.get(path.name, digest) == digest:
            return digest
    except FileError as error:
        _raise_unless_damaged(error)
    if layout.root not in record.parents:
        raise FileError(f"{path}: not what {record} says that it was; run the study that made it again")
    with locked(layout.state(record)):
        lost = mend([path], record, layout.state(record))
    if lost:
        raise FileError(f"{lost[0]}: lost or damaged, and no intact copy is kept; run again: it is made again")
    return digest_file(path)


def check_reported(layout: Layout, nets: Iterable[Coordinates]) -> None:
    """Compare what the report reads of nets with their records, as :func:`checked` does.

    Args:
        layout: The experiment's paths.
        nets: The nets.
    """
    for at in nets:
        folder = layout.net(at)
        paths = [folder / name for name in _REPORTED]
        if at.method:
            paths.append(layout.level(at) / "pruned" / "metrics.json")
        for path in [*paths, layout.structures(at)]:
            if record_of(path):
                checked(path, layout)


def is_intact(path: Path) -> bool:
    """Tell whether a file is there, and what its maker's record says, if there is one.

    Args:
        path: The file.

    Returns:
        Whether it can be read as it was made.
    """
    record = record_of(path)
    try:
        return is_as_said(path, read_run(record).outputs.get(path.name) if record else None)
    except FileError as error:
        _raise_unless_damaged(error)
        return False


def is_record(path: Path) -> bool:
    """Tell whether a file is a job's record, undamaged.

    Args:
        path: The file.

    Returns:
        Whether it is.
    """
    try:
        read_run(path)
    except FileError as error:
        _raise_unless_damaged(error)
        return False
    return True


def mend(outputs: Iterable[Path], record: Path, state: Path) -> list[Path]:
    """Put back the outputs of a finished job that were lost or damaged; the caller holds the job's lock.

    Args:
        outputs: Some or all of the job's outputs.
        record: The job's record.
        state: The job's folder of state.

    Returns:
        What could not be put back; damaged files are moved aside, to ``<name>.damaged``.
    """
    run = _mended_record(record, state)
    if run is None:
        return [record]
    lost = []
    for output in outputs:
        said = run.outputs.get(output.name)
        if output == record or is_as_said(output, said):
            continue
        if not _put_back(output, state, said):
            lost.append(output)
    return lost


def is_as_said(output: Path, said: str | None) -> bool:
    """Tell whether an output is there, and what its record says, if it says something.

    Args:
        output: The output.
        said: The digest that its record says.

    Returns:
        Whether it is.
    """
    return output.exists() and said in {None, digest_file(output)}


def _mended_record(record: Path, state: Path) -> JobRecord | None:
    try:
        return read_run(record)
    except FileError as error:
        _raise_unless_damaged(error)
    return read_run(record) if _put_back(record, state, None) else None


def _put_back(output: Path, state: Path, said: str | None) -> bool:
    kept = intact(output, state, said)
    what = "damaged" if output.exists() else "lost"
    if kept is not None:
        put_back(kept, output)
        _log.warning("%s: was %s; put back", output, what)
    elif output.exists():
        aside = output.replace(output.with_name(f"{output.name}.damaged"))
        _log.warning("%s: damaged, and no intact copy is kept; moved to %s", output, aside)
    return kept is not None


def _raise_unless_damaged(error: FileError) -> None:
    """Raise an error of the disk again: what cannot be read now may well be intact."""
    if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError):
        raise error

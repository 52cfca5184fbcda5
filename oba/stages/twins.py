"""Work that another experiment has finished: a job with the same key, at the same place of a folder beside this one's.

A key names all that a result depends on, so studies that share images and recipes share dense nets: whichever of them
is first trains. The files are copied, never linked: damage in one experiment must not reach another.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from oba.errors import FileError
from oba.files import digest_file, read_json, write_atomic
from oba.layout import Layout
from oba.made import read_run
from oba.stages.finished import kept_files
from oba.tracking import StageRun
from oba.tracking.journal import read_attempt
from oba.tracking.names import SYSTEM

_OWN = {"stage", "at", "key", "settings", "code", "inputs", "outputs", "seconds", "seal"}
"""What a record says of its own job; the rest, such as the machine, holds for copies of its results as well."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Twin:
    """A finished job of another experiment, whose results have been copied.

    Attributes:
        experiment: That experiment.
        journal: What it reported.
        made: What the record of the copies says of how they were made.
        outputs: The copies.
    """

    experiment: str
    journal: Path
    made: dict[str, Any]
    outputs: Sequence[Path]

    def report(self, run: StageRun) -> dict[str, Any]:
        """Report what the job reported.

        Args:
            run: The run of the copies.

        Returns:
            What their record says of how they were made.
        """
        attempt = read_attempt(self.journal) if self.journal.exists() else None
        events = attempt.events if attempt else []
        for event in events:
            if event.kind == "metrics":  # but for what another machine did at another time
                values = {name: v for name, v in event.fields["values"].items() if not name.startswith(SYSTEM)}
                run.metrics(values, step=event.fields["step"])
            elif event.kind == "chain":
                run.chain_metrics(event.fields["values"], step=event.fields["step"])
        shown = {Path(event.fields["path"]).name for event in events if event.kind == "artifact"}
        for output in self.outputs:
            if output.name in shown:
                run.artifact(output)
        return self.made


def copy_twin(layout: Layout, place: str, key: str, outputs: Sequence[Path]) -> Twin | None:
    """Copy the results of another experiment's job, but for its record.

    Args:
        layout: The paths of the experiment that needs them.
        place: The job's name, as :meth:`oba.dag.Stage.place` returns it.
        key: Names all that its results depend on.
        outputs: Where the results belong, the record last.

    Returns:
        The job, or None if there is none whose kept files are intact.
    """
    for other, folder in _finished(layout, place, key):
        try:
            files, record = _files(folder, key, len(outputs))
            for (kept, digest), output in zip(files, outputs[:-1], strict=True):
                write_atomic(output, partial(_copy, kept, digest))
            made = {name: value for name, value in read_json(record).items() if name not in _OWN}
        except FileError as error:
            _log.warning("finished work of %s not used: %s", other.experiment, error)
            continue
        made = {"taken_from": other.experiment} | made
        return Twin(other.experiment, other.journals / f"{place}.jsonl", made, outputs[:-1])
    return None


def _finished(layout: Layout, place: str, key: str) -> Iterator[tuple[Layout, Path]]:
    """Yield the experiments that have finished a job, and where they keep its files."""
    for folder in sorted(layout.results.glob(f"*/.state/{place}/{key}-finished")):
        other = Layout(folder.relative_to(layout.results).parts[0], layout.results)
        if other.experiment != layout.experiment:
            yield other, folder


def _files(folder: Path, key: str, count: int) -> tuple[list[tuple[Path, str]], Path]:
    """Return a finished job's files, each with its digest, and its record."""
    kept = kept_files(folder)
    if len(kept) != count or digest_file(kept[-1][0]) != kept[-1][1] or read_run(kept[-1][0]).key != key:
        raise FileError(f"{folder}: its files are not those of the job that it is named after")
    return kept[:-1], kept[-1][0]


def _copy(kept: Path, digest: str, target: Path) -> None:
    try:
        shutil.copyfile(kept, target)
    except FileNotFoundError as error:
        raise FileError(f"{kept}: gone meanwhile") from error
    if digest_file(target) != digest:
        raise FileError(f"{kept}: damaged: not what it was when it was kept")

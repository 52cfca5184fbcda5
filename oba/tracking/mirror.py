"""Before and after the stages: setting up the store once, and sending what it does not have yet."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from oba.errors import TrackingError
from oba.tracking.chain import ChainPoints
from oba.tracking.connection import Connection
from oba.tracking.described import describe
from oba.tracking.forward import Forwarder
from oba.tracking.idle import Idle
from oba.tracking.leftover import Fate, Queue, close_if_dead
from oba.tracking.run import ALLOWANCE
from oba.tracking.store import Store

_logger = logging.getLogger(__name__)


@dataclass
class SyncReport:
    """What :func:`sync` did.

    Attributes:
        journals: Journals that were looked at.
        updated: Journals of which something was sent.
        metrics: Points sent.
        params: Parameters sent.
        artifacts: Files sent.
        missing: Files that are gone and were not sent.
        busy: Journals that another process was sending.
        deleted: Runs that somebody deleted in MLflow; they stay deleted.
        closed: Runs whose process died without a word, which were ended as KILLED.
        unknown: Runs that another machine started and that may still go on.
        refused: Journals that the store refused, with its reason.
    """

    journals: int = 0
    updated: int = 0
    metrics: int = 0
    params: int = 0
    artifacts: int = 0
    missing: int = 0
    busy: int = 0
    deleted: int = 0
    closed: int = 0
    unknown: int = 0
    refused: dict[Path, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return one line for people, and one for each refused journal."""
        line = (
            f"{self.updated} of {self.journals} runs sent: {self.metrics} metrics, {self.params} parameters, "
            f"{self.artifacts} artifacts"
        )
        for count, what in (
            (self.missing, "files are gone"),
            (self.busy, "runs are being sent by their stages"),
            (self.deleted, "runs were deleted in MLflow"),
            (self.closed, "runs of dead processes ended as KILLED"),
            (self.unknown, "unfinished runs of other machines left as they are"),
        ):
            line += f"; {count} {what}" if count else ""
        return "\n".join([line, *(f"refused: {path}: {reason}" for path, reason in self.refused.items())])


def begin(experiment: str, uri: str, results_dir: Path, tags: Mapping[str, str] | None = None) -> bool:
    """Set up the store and the experiment, once, before many stages meet them.

    The runs of chains are made by the first stage that reports to them. A dead server is reported and left to
    ``sync``; the stages that start in the next half hour leave it alone.

    Args:
        experiment: The experiment.
        uri: The tracking server or store.
        results_dir: The folder of all results.
        tags: What describes the experiment, as :meth:`oba.tracking.run.StageRun.experiment` takes it.

    Returns:
        Whether everything is there.
    """
    store = Store(Connection(uri, results_dir, allowance=ALLOWANCE))
    try:
        store.connection.open()
        store.experiment(experiment)
        describe(store, experiment, tags or {})
    except TrackingError as error:
        _logger.warning("tracking: %s; the runs are kept in journals, `oba sync` sends them later", error)
        return False
    return True


def find_journals(folder: Path) -> list[Path]:
    """Find the journals in a folder and those below it.

    Args:
        folder: The folder of an experiment's journals, which need not be there.

    Returns:
        The journals, in the order of their names.
    """
    walk = os.walk(folder)
    return [Path(name) for name in sorted(f"{at}/{name}" for at, _, names in walk for name in names if _is(name))]


def _is(name: str) -> bool:
    return name.endswith(".jsonl")


def sync(journals: Iterable[Path], uri: str, results_dir: Path) -> SyncReport:
    """Send what is missing, with the original times and without duplicates.

    Where stages that ran again report other values to their chain, the chain gets a new run. Attempts whose process
    is dead are ended as KILLED. Journals that the store has whole are not read.

    Args:
        journals: The journals.
        uri: The tracking server or store.
        results_dir: The folder of all results, which the artifacts are in.

    Returns:
        What was sent.

    Raises:
        TrackingError: If the store cannot be reached.
    """
    store = Store(Connection(uri, results_dir))
    journals = list(journals)
    rest = Idle(journals, store).rest()
    if rest:
        store.connection.open()
    report, queue = SyncReport(journals=len(journals)), Queue()
    reported = ChainPoints(journals)
    for journal in rest:
        fate = close_if_dead(journal, queue)
        report.closed += fate is Fate.CLOSED
        report.unknown += fate is Fate.UNKNOWN
        try:
            sent = Forwarder(journal, store, reported).forward()
        except TrackingError as error:
            store.ping()
            report.refused[journal] = str(error)
            continue
        report.updated += sent.updated
        report.metrics += sent.metrics
        report.params += sent.params
        report.artifacts += sent.artifacts
        report.missing += sent.missing
        report.busy += sent.busy
        report.deleted += sent.deleted
    return report

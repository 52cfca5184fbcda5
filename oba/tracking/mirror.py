"""Before and after the stages: setting up the store once, and sending what it does not have yet."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from oba.errors import TrackingError
from oba.tracking.chain import Chain, ChainPoints
from oba.tracking.connection import Connection
from oba.tracking.forward import Forwarder
from oba.tracking.journal import RunIdentity
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
        ):
            line += f"; {count} {what}" if count else ""
        return "\n".join([line, *(f"refused: {path}: {reason}" for path, reason in self.refused.items())])


def begin(experiment: str, chains: Sequence[RunIdentity], uri: str, results_dir: Path) -> bool:
    """Set up the store, the experiment and the chains' runs, once, before many stages meet them.

    What exists is found again. A chain whose ``attempt`` is another one than before gets a new run; the old one
    ends and is tagged ``superseded_by``. A dead server is reported and left to ``sync``.

    Args:
        experiment: The experiment.
        chains: The parent runs.
        uri: The tracking server or store.
        results_dir: The folder of all results.

    Returns:
        Whether everything is there.
    """
    store = Store(Connection(uri, results_dir, allowance=ALLOWANCE))
    try:
        store.connection.open()
        store.experiment(experiment)
        for chain in chains:
            Chain(store, chain).begin()
    except TrackingError as error:
        _logger.warning("tracking: %s; the runs are kept in journals, `oba sync` sends them later", error)
        return False
    return True


def sync(journals: Iterable[Path], uri: str, results_dir: Path) -> SyncReport:
    """Send what is missing, with the original times and without duplicates.

    Where stages that ran again report other values to their chain, the chain gets a new run.

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
    journals, report = list(journals), SyncReport()
    reported = ChainPoints(journals)
    store.connection.open()
    store.ping()
    for journal in journals:
        report.journals += 1
        try:
            sent = Forwarder(journal, store, reported).forward()
        except TrackingError as error:
            store.ping()
            report.refused[Path(journal)] = str(error)
            continue
        report.updated += sent.updated
        report.metrics += sent.metrics
        report.params += sent.params
        report.artifacts += sent.artifacts
        report.missing += sent.missing
        report.busy += sent.busy
        report.deleted += sent.deleted
    return report

"""Which nets of a sweep are missing, and which jobs are to blame: asked of files, records and logs.

A run of Snakemake that fails leaves nets that are finished, nets that were never begun, and nets of an earlier run
whose own chain has since gone another way. Only the first kind may be reported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from oba.config import Study
from oba.dag import STAGES
from oba.jobs import Jobs
from oba.layout import Coordinates, Layout, name_of, nets
from oba.up_to_date import UpToDate

NO_MESSAGE = "stopped without an error message, perhaps killed"
"""What is said of a job whose log does not say why it ended."""


@dataclass(frozen=True)
class Blocker:
    """A job that could have run and is not finished.

    Attributes:
        stage: Name of its rule.
        name: What people call it.
        at: Its coordinates.
        error: What its log says went wrong, in one line; empty if it was never started.
        log: The log.
    """

    stage: str
    name: str
    at: Coordinates
    error: str
    log: Path

    def explains(self, net: Coordinates) -> str:
        """Return why a net that needs this job is missing."""
        own = replace(net, variant="") == replace(self.at, variant="")
        elsewhere = [f"{k} {v}" for k, v in self.at.given().items() if k != "variant" and net.given().get(k) != v]
        what = self.stage + (f" ({', '.join(elsewhere)})" if elsewhere else "")
        why = f"{what} failed: {self.error}" if self.error else f"{what} has not run"
        return why if own else f"not run: {why}"


@dataclass(frozen=True)
class Gaps:
    """What a sweep lacks.

    Attributes:
        reasons: Why a net is missing, for every net that is, in the order of the study.
        failed: The jobs that were started and did not finish, each once.
    """

    reasons: dict[Coordinates, str]
    failed: list[Blocker]


def find_gaps(study: Study, layout: Layout) -> Gaps:
    """Find the nets of a sweep that are missing or out of date.

    A net is there if the job that evaluates it, and every job that this one builds on, left a record that agrees with
    the study's settings and with the files that were read. A net whose dense net is missing is missing as well: there
    is nothing to compare it with.

    Args:
        study: The study.
        layout: Its paths.

    Returns:
        The missing nets and the jobs to blame.
    """
    survey = _Survey(study, layout)
    reasons: dict[Coordinates, str] = {}
    failed: dict[Blocker, None] = {}
    for net in nets(study):
        dense = STAGES["evaluate_dense"].record(layout, Coordinates(net.model, net.seed))
        blockers = survey.blockers(str(dense))
        if net.variant != "dense":
            blockers = blockers or survey.blockers(str(STAGES["evaluate"].record(layout, net)))
        if blockers:
            reasons[net] = blockers[0].explains(net)
            failed |= dict.fromkeys(blocker for blocker in blockers if blocker.error)
    return Gaps(reasons, list(failed))


class _Survey:
    """The jobs of a study, and what holds them up."""

    def __init__(self, study: Study, layout: Layout) -> None:
        self._jobs = Jobs(study, layout)
        self._up_to_date = UpToDate(self._jobs, code=False)
        self.blockers = cache(self._blockers)

    def _blockers(self, record: str) -> list[Blocker]:
        """Return the unfinished jobs at the root of this one's not being finished; none if it is."""
        if record in self._up_to_date:
            return []
        above = self._up_to_date.upstream(record)
        if found := dict.fromkeys(blocker for other in above for blocker in self.blockers(other)):
            return list(found)
        job = self._up_to_date.planned[record]
        stage, at = job.stage, job.at
        log, name = self._jobs.log(stage, at), name_of(stage.module, replace(at, variant=stage.variant or at.variant))
        error = "" if self._up_to_date.is_recorded(record) else cause_of(log, name)
        return [Blocker(stage.name, name, at, error, log)]


def is_stop(cause: str) -> bool:
    """Return whether a job's last words say that a signal stopped it, after it had saved what it could."""
    return cause.startswith("stopped by ")


def cause_of(log: Path, job: str) -> str:
    """Return why a job did not finish: the last error of its log, or the last line of a traceback.

    Args:
        log: The job's log.
        job: Its name for people, which is not repeated.

    Returns:
        One line: :data:`NO_MESSAGE` where the log says nothing of an end; empty if there is no log.
    """
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    except FileNotFoundError:
        return ""
    lines = [line for line in lines if line]
    if told := [line for line in lines if line.startswith("error: ")]:
        return told[-1].removeprefix("error: ").removeprefix(f"{job}: ")
    if any(line.startswith("Traceback ") for line in lines):
        return lines[-1]
    return NO_MESSAGE

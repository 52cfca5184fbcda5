"""What is known of a running job: shared by those who look at a whole sweep and by the display of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from oba.dag import Stage
from oba.jobs import Jobs, planned_jobs
from oba.layout import Coordinates
from oba.status.signs import Life, Progress, life_of, progress_of

_LOOKS = 200
"""Jobs of one rule that are asked for their times."""


class Looker:
    """Looks at jobs of one study."""

    def __init__(self, jobs: Jobs, *, elsewhere: bool = False) -> None:
        """Look nowhere yet.

        Args:
            jobs: The jobs of the study.
            elsewhere: Whether they run on a cluster.
        """
        self._jobs, self.layout, self.is_elsewhere = jobs, jobs.layout, elsewhere

    def life(self, record: Path) -> Life | None:
        """Return what the journal of the job that leaves a record says."""
        return life_of(self.layout.journals / f"{self.layout.within(record)}.jsonl")

    def progress(self, stage: Stage, at: Coordinates, life: Life) -> Progress:
        """Return how far a job is."""
        return progress_of(self.layout, stage, at, life, self._jobs.settings_of(stage, at))


def seconds_of(times: Path) -> float | None:
    """Return what a job took by Snakemake's clock, which counts its start as well; None if that was not written."""
    try:
        return float(times.read_text(encoding="utf-8").splitlines()[-1].split("\t")[0])
    except (OSError, ValueError, IndexError):
        return None


def past_times(jobs: Jobs) -> Iterator[tuple[str, float]]:
    """Return what jobs of earlier runs took.

    Args:
        jobs: The jobs of the study.

    Yields:
        A rule and seconds, for some of its jobs.
    """
    planned = planned_jobs(jobs.study)
    for rule in jobs.rules:
        own = [job.at for job in planned if job.stage is rule.stages[-1] and rule.variant in {"", job.at.variant}]
        for at in own[:: len(own) // _LOOKS + 1]:
            if (seconds := seconds_of(jobs.layout.times(rule.record(jobs.layout, at)))) is not None:
                yield rule.name, seconds

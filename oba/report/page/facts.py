"""What the page says of a sweep besides its nets: the study, the images and the jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class JobFiles:
    """Where one job of a sweep leaves what it says of itself.

    Attributes:
        record: Its record; a job that has none is not finished.
        benchmark: Snakemake's times of it, if it has any of its own.
        method: Its method; empty for jobs that several methods share.
    """

    record: Path
    benchmark: Path | None = None
    method: str = ""


@dataclass(frozen=True)
class StageJobs:
    """The jobs of one stage.

    Attributes:
        name: Of the stage.
        jobs: All that the sweep needs, finished or not.
        after: The stages whose files it reads.
    """

    name: str
    jobs: Sequence[JobFiles]
    after: Sequence[str] = ()


@dataclass(frozen=True)
class Facts:
    """What a stage knows of its sweep.

    Attributes:
        settings: The study, resolved, as plain values.
        data: Content of ``data.json``; empty if it is not there.
        stages: The stages in their order.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    stages: Sequence[StageJobs] = ()

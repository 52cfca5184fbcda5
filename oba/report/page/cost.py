"""What a sweep cost: the time and memory of its jobs, stage by stage."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from oba.report.page.columns import rounded
from oba.report.page.facts import StageJobs

Records = Mapping[Path, Mapping[str, Any]]


def stage_costs(stages: Sequence[StageJobs], records: Records) -> list[dict[str, Any]]:
    """Gather the jobs of every stage, and how long they took.

    Args:
        stages: The stages.
        records: The records of the finished jobs.

    Returns:
        By stage ``name``, ``after``, ``jobs``, ``finished``, ``devices``, ``median_seconds``, ``longest_seconds``,
        ``sum_seconds``, ``seconds_by_method`` and ``memory_mb``, the largest resident size that Snakemake saw.
    """
    return [_stage(stage, records) for stage in stages]


def _stage(stage: StageJobs, records: Records) -> dict[str, Any]:
    done = [job for job in stage.jobs if job.record in records]
    seconds = [float(records[job.record].get("seconds") or 0) for job in done]
    by_method: dict[str, float] = {}
    for job, value in zip(done, seconds, strict=True):
        by_method[job.method] = by_method.get(job.method, 0.0) + value
    devices = Counter(str(records[job.record]["device"]) for job in done if "device" in records[job.record])
    memory = [size for job in done if job.benchmark and (size := _memory(job.benchmark)) is not None]
    return {
        "name": stage.name,
        "after": list(stage.after),
        "jobs": len(stage.jobs),
        "finished": len(done),
        "devices": sorted(devices),
        "median_seconds": rounded(median(seconds)) if seconds else None,
        "longest_seconds": rounded(max(seconds)) if seconds else None,
        "sum_seconds": rounded(sum(seconds)) if seconds else None,
        "seconds_by_method": {method: rounded(value) for method, value in by_method.items() if method},
        "memory_mb": rounded(max(memory)) if memory else None,
    }


def _memory(path: Path) -> float | None:
    """Return the largest resident size of a job in MB; None where Snakemake left none, as for a very short job."""
    try:
        with path.open(newline="") as stream:
            row = next(csv.DictReader(stream, delimiter="\t"))
        return float(row["max_rss"])
    except (OSError, StopIteration, KeyError, ValueError, TypeError):
        return None

"""What the report's page says of a sweep besides its nets."""

from __future__ import annotations

from collections.abc import Iterator

from oba.config import Study
from oba.data.types import INFO
from oba.files import read_json
from oba.jobs import PlannedJob, planned_jobs
from oba.layout import Coordinates, Layout
from oba.report.page.facts import Facts, JobFiles, StageJobs


def facts_of(study: Study, layout: Layout) -> Facts:
    """Gather the facts of a sweep.

    Args:
        study: The study.
        layout: Its paths.

    Returns:
        Settings, images, and the jobs of every stage.
    """
    info = layout.data / INFO
    return Facts(
        settings=study.model_dump(mode="json", by_alias=True),
        data=read_json(info) if info.exists() else {},
        stages=list(_stages(study, layout)),
    )


def _stages(study: Study, layout: Layout) -> Iterator[StageJobs]:
    by_stage: dict[str, list[PlannedJob]] = {}
    for job in planned_jobs(study):
        by_stage.setdefault(job.stage.name, []).append(job)
    makers = {
        path: name
        for name, jobs in by_stage.items()
        for job in jobs
        if _in_first_chain(job.at, jobs[0].at)
        for path in job.stage.writes(layout, job.at)
    }
    for name, jobs in by_stage.items():
        read = {
            makers[path]
            for job in jobs
            if _in_first_chain(job.at, jobs[0].at)
            for paths in job.stage.reads(study, layout, job.at).values()
            for path in paths
            if path in makers
        }
        files = [_files(study, layout, job) for job in jobs]
        yield StageJobs(name, files, [other for other in by_stage if other in read])


def _in_first_chain(at: Coordinates, first: Coordinates) -> bool:
    """Whether a job belongs to the same chain as the first job of its stage: all others depend in the same way."""
    return (at.model, at.seed, at.method, at.schedule) == (first.model, first.seed, first.method, first.schedule)


def _files(study: Study, layout: Layout, job: PlannedJob) -> JobFiles:
    record = job.stage.record(layout, job.at)
    # Where stages run together, Snakemake's times are those of all of them.
    benchmark = layout.times(record)
    return JobFiles(record, benchmark if study.job_per == "stage" else None, job.at.method)

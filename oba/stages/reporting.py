"""Keeping the journals of jobs and of the report, and mirroring them to MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from oba.config import Study
from oba.dag import Files
from oba.layout import Layout
from oba.stages.descriptions import NOTE, experiment_tags
from oba.tracking import RunIdentity, StageRun, resolve_uri, stage_run

FORWARD_AFTER = 20.0
"""Seconds after which a stage sends to MLflow itself; shorter ones are sent together when the run ends."""
_SHOWN_FILES = {".csv", ".html", ".md", ".pdf", ".png", ".svg"}
_REPORT = "Tables and pictures of the sweep, as files: `{folder}/`. The latest report replaces the one before."


def reported(study: Study, place: str, identity: RunIdentity, reads: Files) -> AbstractContextManager[StageRun]:
    """Keep a job's journal, and mirror it to MLflow.

    Args:
        study: The study.
        place: The job's name, as :meth:`oba.dag.Stage.place` returns it.
        identity: Its run.
        reads: What it reads.

    Returns:
        What to enter; it yields the run to report to.
    """
    layout = Layout(study.experiment)
    # A stage's record lies beside what it wrote, and its journal is named like the record.
    records = {path.with_name("run.json") for paths in reads.values() for path in paths} if identity.parent else ()
    return stage_run(
        layout.journals / f"{place}.jsonl",
        identity,
        uri=resolve_uri(study.tracking.uri, layout.results),
        results_dir=layout.results,
        upstream=[layout.journals / f"{layout.within(path)}.jsonl" for path in sorted(records)],
        min_seconds=FORWARD_AFTER,
        sampled=study.tracking.system_metrics,
    )


@contextmanager
def reported_report(study: Study) -> Iterator[None]:
    """Show the report in MLflow: one run of the sweep, whose files are those of the latest report.

    Args:
        study: The study.

    Yields:
        Nothing; within, the report is made.
    """
    layout = Layout(study.experiment)
    identity = RunIdentity(
        experiment=study.experiment,
        key=f"{study.experiment}/report",
        name="report",
        tags={"sweep": study.experiment, "stage": "report", NOTE: _REPORT.format(folder=layout.report)},
    )
    uri = resolve_uri(study.tracking.uri, layout.results)
    place = layout.journals / "report" / "run.jsonl"
    with stage_run(place, identity, uri=uri, results_dir=layout.results, min_seconds=FORWARD_AFTER, again=True) as run:
        run.experiment(experiment_tags(study))
        yield
        for path in sorted(path for path in layout.report.iterdir() if path.suffix in _SHOWN_FILES):
            run.artifact(path)

"""How the jobs of a study appear in MLflow: the runs of stages and chains, their names and tags."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager

from oba.codedigest import stage_code
from oba.config import PARTS, Study
from oba.dag import STAGES, Files, Stage
from oba.files import digest_json, read_json
from oba.layout import Coordinates, Layout, name_of
from oba.provenance import git_state
from oba.tracking import RunIdentity, StageRun, resolve_uri, stage_run

FORWARD_AFTER = 20.0
"""Seconds after which a stage sends to MLflow itself; shorter ones are sent together when the run ends."""


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
    )


def stage_identity(study: Study, stage: Stage, at: Coordinates, *, key: str, digests: Mapping[str, str]) -> RunIdentity:
    """Return the run of a stage.

    Args:
        study: The study.
        stage: The stage.
        at: Its coordinates.
        key: Names all that its result depends on.
        digests: Tags that say what settings and code these are.

    Returns:
        Its identity, under that of its chain if it belongs to one.
    """
    layout = Layout(study.experiment)
    return RunIdentity(
        experiment=study.experiment,
        key=f"{study.experiment}/{stage.place(layout, at)}",
        name=name_of(stage.module, at),
        parent=chain_identity(study, at) if at.schedule else None,
        tags={**_tags(layout, stage.module), **digests} | at.given() | _method_tags(study, at),
        attempt=key,
    )


def chain_identity(study: Study, at: Coordinates) -> RunIdentity:
    """Return the parent run of a chain.

    Args:
        study: The study, for the settings and the code that all points of the chain depend on.
        at: Coordinates within the chain.

    Returns:
        Its key, ``<experiment>/<model>/seed<seed>/<method>-<schedule>``, readable name, tags and attempt.
    """
    layout = Layout(study.experiment)
    # Neither the levels, which extend a chain, nor the controls, which are not on its chart, are part of this.
    stages = [STAGES[name] for name in ("prepare", "split", "trace", "dense", "prune", "finetune", "evaluate")]
    settings = [stage.sections.of(study, at).model_dump(mode="json", by_alias=True) for stage in stages]
    code = [stage_code(stage.module, stage.roots(study, at)) for stage in stages]
    whole = Coordinates(at.model, at.seed, at.method, at.schedule)
    chain = layout.chain(at)
    return RunIdentity(
        experiment=layout.experiment,
        key=chain.relative_to(layout.results).as_posix(),
        name=name_of("", whole),
        tags={"sweep": layout.experiment, "stage": "chain"} | whole.given() | _method_tags(study, at),
        attempt=digest_json([settings, code]),
    )


def _method_tags(study: Study, at: Coordinates) -> dict[str, str]:
    """Return what a method's free name stands for; nothing for the control that removes nothing."""
    method = next((m for m in study.methods if m.name == at.method), None)
    if method is None:
        return {}
    return {part: getattr(method, part).name for part in PARTS} | {"granularity": method.granularity}


def _tags(layout: Layout, stage: str) -> dict[str, str]:
    git = git_state()
    data = layout.data / "data.json"
    return {
        "sweep": layout.experiment,
        "stage": stage,
        "data_digest": read_json(data)["digest"] if data.exists() else "",
        "git_commit": str(git["commit"]),
        "git_dirty": str(git["dirty"]),
        "job_id": os.environ.get("SLURM_JOB_ID", ""),
    }

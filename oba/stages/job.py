"""What all stages share: finding their place, holding its lock, keeping a journal, leaving a record.

A stage module says what it reads (``inputs``) and does its work in ``perform``; :func:`execute` does the
rest. A stage sees its own slice of the study and nothing else.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Generic, TypeVar

from oba.codedigest import stage_code
from oba.config import Study
from oba.files import digest_file, digest_json, git_state, locked, provenance, read_json, write_json
from oba.layout import Cell, Layout, models_by_slug
from oba.sections import STAGES, StageSections
from oba.tracking import RunIdentity, StageRun, resolve_uri, stage_run

S = TypeVar("S", bound=StageSections)
FORWARD_AFTER = 20.0
"""Seconds after which a stage sends to MLflow itself; shorter ones are sent together when the run ends."""


@dataclass(frozen=True)
class Job(Generic[S]):
    """One job of the DAG while it runs.

    Attributes:
        stage: The stage's name.
        sections: The slice of the study that the stage declares.
        cell: The coordinates.
        model: The model's name as the study writes it.
        layout: The experiment's paths.
        directory: Where the outputs go.
        state: Where resumable state goes; removed on success.
        run: The stage's run, as MLflow will show it.
    """

    stage: str
    sections: S
    cell: Cell
    model: str
    layout: Layout
    directory: Path
    state: Path
    run: StageRun

    @property
    def seed(self) -> int:
        """The sweep's seed, of a stage that has one."""
        assert self.cell.seed is not None, f"{self.stage} has no seed"
        return self.cell.seed


def execute(
    stage: str,
    study: Study,
    cell: Cell,
    perform: Callable[[Job], dict[str, Any]],
    *,
    record: Path,
    inputs: Iterable[Path] = (),
    outputs: Iterable[Path] = (),
) -> None:
    """Run one job: once, under its lock, journalled and recorded.

    A job whose record carries the same key and whose outputs are all there is left as it is: an orphan of a
    killed run finished it while this job waited for the lock.

    Args:
        stage: The stage's name.
        study: The whole study; the stage gets its slice.
        cell: The job's coordinates.
        perform: The stage's work; returns what the record should hold besides the provenance.
        record: The file that is written last, with settings, digests of code and inputs, and provenance.
        inputs: Files that the result depends on.
        outputs: Files that ``perform`` writes beside the record.
    """
    layout = Layout(study.experiment)
    sections = STAGES[stage].of(study)
    model = models_by_slug(study).get(cell.model, "")
    settings = sections.model_dump(mode="json", by_alias=True)
    code = stage_code(study, stage, model, cell.criterion)
    digests = {str(path): digest_file(path) for path in inputs}
    key = digest_json([stage, cell.given(), settings, code, digests])
    place = layout.within(record)
    base = layout.root / ".state" / place
    with locked(base):
        if all(path.exists() for path in (record, *outputs)) and read_json(record)["key"] == key:
            return
        for stale in base.iterdir():
            if stale.is_dir() and stale.name != key:
                shutil.rmtree(stale)
        parent = chain_identity(study, cell) if cell.schedule else None
        identity = RunIdentity(
            experiment=study.experiment,
            key=f"{study.experiment}/{place}",
            name=" ".join([stage, *readable(cell)]),
            parent=parent,
            tags=_tags(stage, layout, cell, digest_json(settings), code),
            attempt=key,
        )
        # A stage's record lies beside what it wrote, and its journal is named like the record.
        records = {path.with_name("run.json") for path in inputs} if parent else ()
        upstream = [layout.journals / f"{layout.within(path)}.jsonl" for path in sorted(records)]
        journal = layout.journals / f"{place}.jsonl"
        uri = resolve_uri(study.tracking.uri, layout.results)
        started = perf_counter()
        with stage_run(
            journal, identity, uri=uri, results_dir=layout.results, upstream=upstream, min_seconds=FORWARD_AFTER
        ) as run:
            run.params({"stage": stage} | cell.given() | settings)
            facts = perform(Job(stage, sections, cell, model, layout, record.parent, base / key, run))
            summary = {"stage": stage, "cell": cell.given(), "key": key, "settings": settings, "code": code}
            summary |= {"inputs": digests, "seconds": round(perf_counter() - started, 3)} | facts | provenance()
            write_json(record, summary)
            run.artifact(record)
        shutil.rmtree(base / key, ignore_errors=True)


def chain_identity(study: Study, cell: Cell) -> RunIdentity:
    """Return the parent run of a chain.

    Args:
        study: The study, for the settings and the code that all points of the chain depend on.
        cell: Any cell of the chain.

    Returns:
        Its key, ``<experiment>/<model>/seed<seed>/<criterion>-<schedule>``, readable name, tags and attempt.
    """
    layout, model = Layout(study.experiment), models_by_slug(study)[cell.model]
    # Neither the levels, which extend a chain, nor the controls, which are not on its chart, are part of this.
    stages = ("prepare", "split", "structures", "dense", "prune", "finetune", "evaluate")
    settings = [STAGES[stage].of(study).model_dump(mode="json", by_alias=True) for stage in stages]
    code = [stage_code(study, stage, model, cell.criterion) for stage in stages]
    whole = Cell(cell.model, cell.seed, cell.criterion, cell.schedule)
    chain = layout.chain(cell.model, cell.seed, cell.criterion, cell.schedule)
    return RunIdentity(
        experiment=layout.experiment,
        key=chain.relative_to(layout.results).as_posix(),
        name=" ".join(readable(whole)),
        tags={"sweep": layout.experiment, "stage": "chain"} | whole.given(),
        attempt=digest_json([settings, code]),
    )


def readable(cell: Cell) -> list[str]:
    """Return coordinates as the names of runs show them.

    What tells runs apart comes first, because lists of runs cut names short.

    Args:
        cell: The coordinates.

    Returns:
        Words such as ``seed0`` and ``keep0.30``.
    """
    given = cell.given()
    order = ("criterion", "schedule", "keep", "variant", "model", "seed")
    return [f"{name}{given[name]}" if name in {"seed", "keep"} else given[name] for name in order if name in given]


def _tags(stage: str, layout: Layout, cell: Cell, settings: str, code: str) -> dict[str, str]:
    git = git_state()
    data = layout.data / "data.json"
    return {
        "sweep": layout.experiment,
        "stage": stage,
        "config_digest": settings,
        "code_digest": code,
        "data_digest": read_json(data)["digest"] if data.exists() else "",
        "git_commit": str(git["commit"]),
        "git_dirty": str(git["dirty"]),
        "job_id": os.environ.get("SLURM_JOB_ID", ""),
    } | cell.given()

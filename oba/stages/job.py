"""What all stages share: finding their place, holding its lock, keeping a journal, leaving a record.

What a stage reads and writes is said in :mod:`oba.dag`; its module in this folder does the work in ``perform``. A stage
sees its own slice of the study and nothing else.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Generic, TypeVar

from oba import ranks
from oba.codedigest import stage_code
from oba.config import Study
from oba.dag import Files, stage_of
from oba.errors import ConfigError, FileError, ObaError, Told, explain_oserror
from oba.files import digest_json, locked, remove_partial
from oba.imports import imported
from oba.layout import Coordinates, Layout, models_by_slug, name_of, require_job
from oba.made import read_run, write_run
from oba.provenance import provenance
from oba.sections import StageSections
from oba.stages.descriptions import NOTE, describe_stage
from oba.stages.finished import keep, restore
from oba.stages.identities import method_tags, stage_identity
from oba.stages.logs import kept_log
from oba.stages.repair import checked, is_as_said, is_intact
from oba.stages.reporting import reported
from oba.stages.showing import report_data, report_net
from oba.stages.twins import Twin, copy_twin
from oba.study import load_resolved
from oba.tracking import StageRun, UnheardRun
from oba.tracking.journal import read_attempt
from oba.training.launch import launch
from oba.training.slots import device_slots

S = TypeVar("S", bound=StageSections)


@dataclass(frozen=True)
class Job(Generic[S]):
    """One job of the DAG while it runs.

    Attributes:
        stage: The stage's command.
        sections: The slice of the study that the stage declares.
        at: The coordinates.
        model_name: The model's name as the study writes it; ``at.model`` is how paths write it.
        layout: The experiment's paths.
        inputs: What the stage reads and comes after, as :mod:`oba.dag` says.
        directory: Where the outputs go.
        state: Where resumable state goes; removed on success.
        run: The stage's run, as MLflow will show it.
        seen: What its result depends on besides inputs, settings and code, as :mod:`oba.dag` says.
    """

    stage: str
    sections: S
    at: Coordinates
    model_name: str
    layout: Layout
    inputs: Files
    directory: Path
    state: Path
    run: StageRun
    seen: str = ""

    @property
    def seed(self) -> int:
        """The sweep's seed, of a stage that has one."""
        assert self.at.seed is not None, f"{self.stage} has no seed"
        return self.at.seed

    def folder(self, name: str) -> Path:
        """Return the folder of an input."""
        return self.inputs[name][0].parent


def execute(command: str, study: Study, at: Coordinates, *, source: Path) -> None:
    """Run one job: once, under its lock, journalled and recorded.

    A job that was finished before, with the same settings, inputs and code, is not run again: its outputs are left as
    they are, or put back where Snakemake deleted them, as it does after a kill. A job that wants several GPUs runs as
    ranks: this process holds its lock and devices, and they call this function again.

    While a job waits for its lock, the study may become another. A resolved study is read again then, so that the job
    does what is wanted now: never does one that outlived its run replace newer work by older.

    Args:
        command: The stage's command.
        study: The whole study; the stage gets its slice.
        at: The job's coordinates.
        source: The file that the study was read from.

    Raises:
        ObaError: Whatever ends the job.
    """
    if ranks.count() > 1:
        _Task(command, study, at).perform()
        return
    layout = Layout(study.experiment)
    base = layout.state(stage_of(command, at).record(layout, at))
    with _named(name_of(command, at)), locked(base):
        task = _Task(command, load_resolved(source) if source.suffix == ".json" else study, at)
        finished = base / f"{task.key}-finished"
        if task.is_done() or restore(task.outputs, finished):
            task.finish_report()
            return
        for output in task.outputs:
            remove_partial(output)
        for stale in base.iterdir():
            if stale.is_dir() and stale.name not in {task.key, finished.name}:
                shutil.rmtree(stale)
        with kept_log(task.layout.log(task.record)), _slots(task.sections, task.count):
            try:
                task.work(source)
            except ObaError as error:
                if error.exit_code != FileError.exit_code or not task.mended():
                    raise
                task.work(source)
        if keep(task.outputs, finished):
            shutil.rmtree(base / task.key, ignore_errors=True)


class _Task:
    """A job, from what it depends on to what it leaves."""

    def __init__(self, command: str, study: Study, at: Coordinates) -> None:
        require_job(study, at)
        self.layout, self.stage = Layout(study.experiment), stage_of(command, at)
        self.sections = self.stage.sections.of(study, at)
        self._command, self._study, self._at = command, study, at
        self._settings = self.sections.model_dump(mode="json", by_alias=True)
        self._code = stage_code(command, self.stage.roots(study, at))
        self._reads = self.stage.reads(study, self.layout, at)
        self._digests = {str(path): checked(path, self.layout) for paths in self._reads.values() for path in paths}
        self._seen = self.stage.sees(study, self.layout)
        # Paths as other experiments have them, too: what is equal there need not be done again.
        inputs = {self._named(path): digest for path, digest in self._digests.items()}
        self.key = digest_json([command, at.given(), self._settings, self._code, inputs, self._seen])
        self.outputs = self.stage.leaves(study, self.layout, at)
        self.record = self.outputs[-1]
        self._place = self.stage.place(self.layout, at)
        self.base = self.layout.state(self.record)
        self.count: int = getattr(self.sections, "gpus", 1)

    def _named(self, path: str) -> str:
        """Return a path within the experiment's folder, if it is there."""
        return str(Path(path).relative_to(self.layout.root)) if self.layout.root in Path(path).parents else path

    def is_done(self) -> bool:
        """Tell whether the job was finished with this key, and its outputs are what its record says."""
        try:
            run = read_run(self.record)
        except FileError:
            return False
        return run.key == self.key and all(is_as_said(path, run.outputs.get(path.name)) for path in self.outputs[:-1])

    def mended(self) -> bool:
        """Put back images that were damaged; tell whether there were any."""
        after = self.stage.after(self._study, self.layout, self._at)
        damaged = [path for paths in after.values() for path in paths if not is_intact(path)]
        for path in damaged:
            checked(path, self.layout)
        return bool(damaged)

    def work(self, source: Path) -> None:
        """Do the work, as ranks if there are to be several, unless another experiment has done it."""
        twin = copy_twin(self.layout, self._place, self.key, self.outputs)
        if twin or self.count == 1:
            self.perform(twin)
            return
        again = ["-m", "oba", self._command, "--study", str(source), *shlex.split(self.stage.options(self._at))]
        launch(self.count, again, log=self.layout.log(self.record))
        with suppress(FileError):  # deleted meanwhile, by a Snakemake that started again
            if read_run(self.record).key != self.key:
                raise ConfigError(f"{source}: changed while the job's ranks started; run again")

    def perform(self, twin: Twin | None = None) -> None:
        """Do the work, unless a twin has left it; of several ranks all do it together, and the first reports it."""
        command, at, settings = self._command, self._at, self._settings
        inputs = {**self._reads, **self.stage.after(self._study, self.layout, at)}
        model = models_by_slug(self._study).get(at.model, "")
        runtime = getattr(self.sections, "runtime", None)
        with self._reported() as run, ranks.connected(cuda=runtime is not None and runtime.device != "cpu"):
            started = perf_counter()
            run.params({"stage": command} | at.given() | settings)
            state, seen = self.base / self.key, self._seen
            report_data(run, self._study, command, self.layout)
            job = Job(command, self.sections, at, model, self.layout, inputs, self.record.parent, state, run, seen)
            facts = twin.report(run) if twin else imported(f"oba.stages.{command}").perform(job)
            self._show(run)
            summary = {"stage": command, "at": at.given(), "key": self.key, "settings": settings, "code": self._code}
            summary |= {"inputs": self._digests, "seconds": round(perf_counter() - started, 3)} | facts | provenance()
            if ranks.is_main():
                write_run(self.record, summary, self.outputs[:-1])
            run.artifact(self.record)

    def finish_report(self) -> None:
        """End the journal of a finished job that was killed before it could: after its record, its last output."""
        journal = self.layout.journals / f"{self._place}.jsonl"
        attempt = read_attempt(journal) if journal.exists() else None
        if attempt and attempt.identity.attempt == self.key and attempt.state[0] != "FINISHED":
            with self._reported() as run:
                run.artifact(self.record)

    def _show(self, run: StageRun) -> None:
        """Report what people look for in MLflow, of which nothing is there before the work is done."""
        if self._command == "prepare":
            report_data(run, self._study, self._command, self.layout)
        if self._command == "evaluate" and ranks.is_main():
            settings, parts = self._study.tracking.models, method_tags(self._study, self._at)
            report_net(run, self.record.parent, self._at, settings, parts)
        run.tags({NOTE: describe_stage(self._study, self._command, self._at, self.record)})

    @contextmanager
    def _reported(self) -> Iterator[StageRun]:
        """Keep the job's journal, mirrored to MLflow; of several ranks, the first does."""
        if not ranks.is_main():
            yield UnheardRun(self.layout.results)
            return
        digests = {"config_digest": digest_json(self._settings), "code_digest": self._code}
        identity = stage_identity(self._study, self.stage, self._at, key=self.key, digests=digests)
        # A first rank whose starter was killed may still be dying, and write.
        alone = locked(self.base, ".first-rank") if ranks.count() > 1 else nullcontext()
        with alone, reported(self._study, self._place, identity, self._reads) as run:
            yield run


@contextmanager
def _named(job: str) -> Iterator[None]:
    """Let an error that ends a job say which one."""
    try:
        yield
    except (Told, OSError) as error:
        known = error if isinstance(error, Told) else explain_oserror(error)
        if known is None:
            raise
        known.job = job
        raise known from error.__cause__ if known is error else error


def _slots(sections: StageSections, count: int) -> AbstractContextManager[object]:
    """Hold the GPUs of a stage that runs on some; before anything asks CUDA for its devices."""
    runtime = getattr(sections, "runtime", None)
    return device_slots(runtime.device, count) if runtime is not None else nullcontext()


def label_of(job: Job) -> str:
    """Return a job's name for people, such as ``dense resnet8 seed0``."""
    return name_of(job.stage, job.at)

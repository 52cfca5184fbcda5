"""The jobs of the workflow: which stages one job runs, one after the other, in one process.

With ``job_per: stage`` every stage is a job, and its files are those of :mod:`oba.dag`. With ``job_per: level`` a job
runs all stages of a level (pruning, fine-tuning, evaluation), of a dense net (training, evaluation) or of a control.
That is a third of the jobs to plan, to start and to queue for. Such a job stands in the DAG with one file, the record
that it writes last; the jobs that need any of its files ask for this one. Nothing else differs: each stage keeps its
own key, lock, journal and record, and does not run if these say that it has run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oba.codedigest import stage_code
from oba.config import Study
from oba.dag import STAGES, Stage
from oba.files import read_json, write_json
from oba.layout import Coordinates, Layout, nets

_RECORD = "evaluation-run.json"
_STAND_IN = {"pruned": "finetuned", "finetuned": "finetuned", "dense": "dense", "scratch": "scratch"}
"""The folder whose last record stands for the files of a folder."""


@dataclass(frozen=True)
class Rule:
    """Jobs of one kind.

    Attributes:
        name: Of the rule.
        stages: What a job runs, in this order.
        variant: Of the net that a job evaluates, where its coordinates leave it open.
    """

    name: str
    stages: tuple[Stage, ...]
    variant: str = ""

    @property
    def axes(self) -> tuple[str, ...]:
        """The coordinates that name a job."""
        return self.stages[0].axes

    @property
    def command(self) -> str:
        """The command that runs a job."""
        return "+".join(stage.module for stage in self.stages)

    @property
    def priority(self) -> int:
        """Of its jobs among those that could run."""
        return self.stages[0].priority

    @property
    def gpu(self) -> bool:
        """Whether its jobs run on a GPU where the study wants one."""
        return any(stage.gpu for stage in self.stages)

    def each(self, at: Coordinates) -> Iterator[tuple[Stage, Coordinates]]:
        """Return the stages of a job, each with its own coordinates."""
        for stage in self.stages:
            variant = self.variant or at.variant if "variant" in stage.axes else stage.variant
            yield stage, replace(at, variant=variant)

    def record(self, layout: Layout, at: Coordinates) -> Path:
        """Return the file that a job writes last."""
        *_, (stage, place) = self.each(at)
        return stage.record(layout, place)

    def outputs(self, layout: Layout, at: Coordinates) -> list[Path]:
        """Return the files that a job has in the DAG, the record last."""
        if len(self.stages) == 1:
            return self.stages[0].writes(layout, at)
        return [self.record(layout, at)]

    def options(self, at: Coordinates) -> str:
        """Return a job's options for the command line."""
        stage, place = next(self.each(at))
        return stage.options(place)


@dataclass(frozen=True)
class PlannedJob:
    """A stage of a sweep at its coordinates.

    Attributes:
        stage: The stage.
        at: The coordinates.
    """

    stage: Stage
    at: Coordinates


class Jobs:
    """What the jobs of a study are to Snakemake: files, settings, code.

    Jobs of one rule, model and method have the same settings and code; they are told apart by their files alone.
    """

    def __init__(self, study: Study, layout: Layout) -> None:
        """Look at a study, which must not change any more.

        Args:
            study: The study.
            layout: Its paths.
        """
        self.study, self.layout = study, layout
        self.rules = rules_of(study)
        self._settings: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._code: dict[tuple[str, str, str], str] = {}
        self._params: dict[tuple[str, str, str], str] = {}

    def reads(self, rule: Rule, at: Coordinates) -> Mapping[str, list[Path]]:
        """Return a job's inputs: what it reads and does not make itself; a change of content is a reason to run again.

        Args:
            rule: Its rule.
            at: Its coordinates.

        Returns:
            Files by what they are to the job. Where stages run together, the records that stand for what is read.
        """
        if len(rule.stages) == 1:
            return rule.stages[0].reads(self.study, self.layout, at)
        own = rule.record(self.layout, at)
        found: dict[str, dict[Path, None]] = {}
        for stage, place in rule.each(at):
            for name, paths in stage.reads(self.study, self.layout, place).items():
                if asked := [path for path in self.asked(paths) if path != own]:
                    found.setdefault(name, {}).update(dict.fromkeys(asked))
        return {name: list(paths) for name, paths in found.items()}

    def after(self, rule: Rule, at: Coordinates) -> Mapping[str, list[Path]]:
        """Return files that must be there, too; no reason of their own to run again."""
        if len(rule.stages) == 1:
            return rule.stages[0].after(self.study, self.layout, at)
        return {}

    def asked(self, paths: Iterable[Path]) -> list[Path]:
        """Return the files of the DAG that stand for files of stages, each once."""
        paths = paths if self.study.job_per == "stage" else map(self._stand_in, paths)
        return list(dict.fromkeys(paths))

    def doubtful(self) -> list[str]:
        """Return the rules whose jobs Snakemake cannot judge: their files were made by jobs of several stages.

        Snakemake knows the settings and the code of the files that stand in the DAG, and takes others as they are.
        """
        made = self._remembered()
        if self.study.job_per == "level" or "level" not in made:
            return []
        return [stage.name for rule in TOGETHER for stage in rule.stages]

    def remember(self, *, finished: bool) -> None:
        """Note by what jobs files were made: called when a run starts, and when it has made all of them."""
        made = {self.study.job_per} if finished else {self.study.job_per, *self._remembered()}
        write_json(self.layout.made_by, sorted(made))

    def _remembered(self) -> list[str]:
        return read_json(self.layout.made_by) if self.layout.made_by.exists() else []

    def log(self, stage: Stage, at: Coordinates) -> Path:
        """Return the log of the job that runs a stage at some coordinates."""
        rule = next(
            rule
            for rule in self.rules
            if stage in rule.stages and (not rule.variant or at.variant in {"", rule.variant})
        )
        return self.layout.log(rule.record(self.layout, at))

    def settings(self, rule: Rule, at: Coordinates) -> str:
        """Return the slice of the study that a job sees, as JSON; a change of it reruns the job."""
        place = rule.name, at.model, at.method
        if place not in self._params:
            values = {stage.module: self.settings_of(stage, own) for stage, own in rule.each(at)}
            self._params[place] = json.dumps(values if len(values) > 1 else values[rule.command], sort_keys=True)
        return self._params[place]

    def code(self, rule: Rule, at: Coordinates) -> str:
        """Return the digests of the code that a job's results depend on."""
        return " ".join(self.code_of(stage, own) for stage, own in rule.each(at))

    def settings_of(self, stage: Stage, at: Coordinates) -> dict[str, Any]:
        """Return the slice of the study that one stage of a job sees, as plain values."""
        place = stage.name, at.model, at.method
        if place not in self._settings:
            self._settings[place] = stage.sections.of(self.study, at).model_dump(mode="json", by_alias=True)
        return self._settings[place]

    def code_of(self, stage: Stage, at: Coordinates) -> str:
        """Return the digest of the code that one stage of a job would run now."""
        place = stage.name, at.model, at.method
        if place not in self._code:
            self._code[place] = stage_code(stage.module, stage.roots(self.study, at))
        return self._code[place]

    def sees(self, rule: Rule) -> str:
        """Return what else the jobs of a rule depend on, such as the files of the data set."""
        return "".join(stage.sees(self.study, self.layout) for stage in rule.stages)

    def _stand_in(self, path: Path) -> Path:
        """Return the file of the DAG that stands for one that a job of several stages makes."""
        folder = _STAND_IN.get(path.parent.name)
        if folder is None or not path.is_relative_to(self.layout.root):
            return path
        return path.parent.with_name(folder) / _RECORD


def _together(name: str, stages: Sequence[str], variant: str = "") -> Rule:
    return Rule(name, tuple(STAGES[stage] for stage in stages), variant)


TOGETHER = (
    _together("dense", ["dense", "evaluate_dense"]),
    _together("level", ["prune", "finetune", "evaluate"], "finetuned"),
    _together("scratch", ["scratch", "evaluate"], "scratch"),
)
"""The rules of stages that run together, where ``job_per`` is ``level``."""


def rules_of(study: Study) -> list[Rule]:
    """Return the rules of a study's workflow.

    Args:
        study: The study, of which ``job_per`` counts.

    Returns:
        One rule for each stage, or for the stages that run together.
    """
    together = TOGETHER if study.job_per == "level" else ()
    inside = {stage.name for rule in together for stage in rule.stages}
    single = [stage for name, stage in STAGES.items() if name not in inside]
    return [*(Rule(stage.name, (stage,)) for stage in single), *together]


def planned_jobs(study: Study) -> list[PlannedJob]:
    """Return the jobs that some net of a sweep needs, the report apart.

    Args:
        study: The study.

    Returns:
        Each once, stage by stage.
    """
    sweep = nets(study)
    trained = {"evaluate_dense": "dense", "scratch": "scratch"}
    found = dict.fromkeys(
        PlannedJob(stage, Coordinates(**{axis: getattr(net, axis) for axis in stage.axes}))
        for stage in STAGES.values()
        for net in sweep
        if net.variant == trained.get(stage.name, net.variant)
    )
    return [job for job in found if "" not in (getattr(job.at, axis) for axis in job.stage.axes)]

"""The stages of the DAG: what each reads and writes, which slice of the study and which code it sees.

This is the one place that says so: the rules of the workflow are made from it, and so are the commands and the records
of the stages. Coordinates may be Snakemake wildcards such as ``"{seed}"`` where only paths are asked for.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from oba import chosen, registry
from oba.config import Study
from oba.data.fingerprint import fingerprint
from oba.data.split_files import parts_file
from oba.data.types import INFO, PREPARED_FILES
from oba.layout import (
    DENSE_LONGER,
    NET_FILES,
    SCORES,
    TRAINED_FILES,
    Coordinates,
    Layout,
    finetune_of,
    method_of,
    model_of,
    prunes_weights,
    start_of,
)
from oba.models.parse import family
from oba.sections import STAGES as SECTIONS
from oba.sections import StageSections

Files = Mapping[str, list[Path]]
"""Files by what they are to the stage."""

NOTHING: Callable[[Study, Layout, Coordinates], Files] = lambda study, layout, at: {}  # noqa: E731
_LEVEL = ("model", "seed", "method", "schedule", "keep")


@dataclass(frozen=True)
class Stage:
    """One kind of job.

    Attributes:
        name: Of the rule.
        axes: The coordinates that name a job.
        writes: Its outputs, the record last.
        extras: What it leaves besides, for people, where the study wants that.
        reads: Its inputs; a change of their content is a reason to run again.
        after: Files that must be there, too, of jobs that other inputs come from: no reason of their own to run again.
        sees: What its result depends on besides files, settings and code: a fingerprint.
        command: Of the command line, and the module in ``oba/stages``; the name if not given.
        variant: Of the net that it is about, where the axes leave that open.
        uses: Registered entries whose code a job runs besides what its module imports, as (kind, name).
        builds: Whether it builds a model.
        gpu: Whether it runs on a GPU where the study wants one.
        priority: Of its jobs among those that could run.
    """

    name: str
    axes: tuple[str, ...]
    writes: Callable[[Layout, Coordinates], list[Path]]
    extras: Callable[[Study, Layout, Coordinates], list[Path]] = lambda study, layout, at: []
    reads: Callable[[Study, Layout, Coordinates], Files] = NOTHING
    after: Callable[[Study, Layout, Coordinates], Files] = NOTHING
    sees: Callable[[Study, Layout], str] = lambda study, layout: ""
    command: str = ""
    variant: str = ""
    uses: Callable[[Study, Coordinates], list[tuple[str, str]]] = lambda study, at: []
    builds: bool = False
    gpu: bool = False
    priority: int = 0

    @property
    def module(self) -> str:
        """Name of the module in ``oba/stages`` and of the command."""
        return self.command or self.name

    @property
    def sections(self) -> type[StageSections]:
        """The slice of the study that its jobs see."""
        return SECTIONS[self.module]

    @property
    def kind(self) -> str:
        """The key of the study's threads and GPUs that holds for its jobs."""
        return self.sections.kind()

    def record(self, layout: Layout, at: Coordinates) -> Path:
        """Return the file that a job writes last."""
        return self.writes(layout, at)[-1]

    def leaves(self, study: Study, layout: Layout, at: Coordinates) -> list[Path]:
        """Return all files that a job is to leave, the record last."""
        *outputs, record = self.writes(layout, at)
        return [*outputs, *self.extras(study, layout, at), record]

    def place(self, layout: Layout, at: Coordinates) -> str:
        """Return the name of a job: that of its record below the experiment's folder, without suffix."""
        return layout.within(self.record(layout, at))

    def options(self, at: Coordinates) -> str:
        """Return a job's options for a shell's command line."""
        given = at.given()
        return " ".join(f"--{axis} {shlex.quote(given[axis])}" for axis in (*_LEVEL, "variant") if axis in given)

    def roots(self, study: Study, at: Coordinates) -> list[str]:
        """Return the modules that the study chooses for a job, besides the stage's own."""
        chosen = [registry.module_name(kind, name) for kind, name in self.uses(study, at)]
        if self.builds:
            chosen.append(f"oba.models.families.{family(model_of(study, at.model).name)}")
        if self.name == "dense" and model_of(study, at.model).dense.source == "pretrained":
            chosen.append("oba.models.pretrained")
        return chosen


Place = Callable[[Layout, Coordinates], Path]
Reads = Callable[[Study, Layout, Coordinates], Files]
_EVALUATION = ("evaluation.json", "evaluation-run.json")


def _pruned(layout: Layout, at: Coordinates) -> Path:
    return layout.level(at) / "pruned"


def _finetuned(layout: Layout, at: Coordinates) -> Path:
    return layout.level(at) / "finetuned"


def _scratch(layout: Layout, at: Coordinates) -> Path:
    return layout.level(at) / "scratch"


def _in(folder: Place, names: Sequence[str]) -> Callable[[Layout, Coordinates], list[Path]]:
    """Return a function: the files of these names in a folder."""

    def files(layout: Layout, at: Coordinates) -> list[Path]:
        place = folder(layout, at)
        return [place / name for name in names]

    return files


def _split_files(layout: Layout, at: Coordinates) -> list[Path]:
    return [layout.split(at), parts_file(layout.split(at))]


def _description(study: Study, layout: Layout, at: Coordinates) -> Files:
    return {"data": [layout.data / INFO]}


def _with_images(**files: Callable[[Layout, Coordinates], list[Path]]) -> Reads:
    """Return a function: what describes the images and divides them, and further files."""

    def reads(study: Study, layout: Layout, at: Coordinates) -> Files:
        own = {name: paths(layout, at) for name, paths in files.items()}
        return {"data": [layout.data / INFO], "split": _split_files(layout, at), **own}

    return reads


def _images(study: Study, layout: Layout, at: Coordinates) -> Files:
    """The images themselves; whether they changed is said by ``data.json``, which has their digest."""
    return {"images": [layout.data / name for name in PREPARED_FILES if name != INFO]}


def _dense_inputs(study: Study, layout: Layout, at: Coordinates) -> Files:
    source = model_of(study, at.model).dense.source
    weights = {} if source in {"train", "pretrained"} else {"weights": [Path(source)]}
    return {**_with_images()(study, layout, at), **weights}


def _prune_inputs(study: Study, layout: Layout, at: Coordinates) -> Files:
    start = start_of(study, layout, at)
    files = {"start": [start / name for name in NET_FILES[:3]]}
    if not prunes_weights(study, at):
        files["structures"] = [layout.structures(at)]
    if at.method != DENSE_LONGER and (copied := method_of(study, at.method).allocation.options.get("method")):
        files["widths"] = [_pruned(layout, replace(at, method=copied)) / "plan.json"]
    return {**_with_images()(study, layout, at), **files}


def _kept_scores(study: Study, layout: Layout, at: Coordinates) -> list[Path]:
    kept = at.method != DENSE_LONGER and method_of(study, at.method).keep_scores
    return [_pruned(layout, at) / SCORES] if kept else []


def _finetune_inputs(study: Study, layout: Layout, at: Coordinates) -> Files:
    files = {"pruned": [_pruned(layout, at) / name for name in NET_FILES[:3]]}
    if finetune_of(study, at).distillation is not None:
        files["teacher"] = [layout.dense(at) / name for name in NET_FILES[:2]]
    return {**_with_images()(study, layout, at), **files}


_STAGES = (
    Stage(
        "prepare",
        (),
        writes=lambda layout, at: [layout.data / name for name in (*PREPARED_FILES, "run.json")],
        sees=lambda study, layout: fingerprint(study.data, layout.image_states),
        uses=lambda study, at: [("data set", study.data.name)],
    ),
    Stage(
        "split",
        ("seed",),
        writes=lambda layout, at: [*_split_files(layout, at), layout.data / f"split-seed{at.seed}-run.json"],
        reads=_description,
        after=_images,
    ),
    Stage(
        "trace",
        ("model",),
        writes=lambda layout, at: [layout.structures(at), layout.structures(at).with_name("structures-run.json")],
        reads=_description,
        builds=True,
        priority=20,
    ),
    Stage(
        "dense",
        ("model", "seed"),
        writes=_in(Layout.dense, TRAINED_FILES),
        reads=_dense_inputs,
        after=_images,
        uses=chosen.for_dense,
        builds=True,
        gpu=True,
        priority=10,
    ),
    Stage(
        "evaluate_dense",
        ("model", "seed"),
        command="evaluate",
        variant="dense",
        writes=_in(Layout.dense, _EVALUATION),
        reads=_with_images(net=_in(Layout.dense, NET_FILES[:2])),
        after=_images,
        builds=True,
        gpu=True,
    ),
    Stage(
        "prune",
        _LEVEL,
        writes=_in(_pruned, NET_FILES),
        extras=_kept_scores,
        reads=_prune_inputs,
        after=_images,
        uses=chosen.parts_of_method,
        builds=True,
        gpu=True,
    ),
    Stage(
        "finetune",
        _LEVEL,
        writes=_in(_finetuned, TRAINED_FILES),
        reads=_finetune_inputs,
        after=_images,
        uses=chosen.for_finetune,
        builds=True,
        gpu=True,
    ),
    Stage(
        "scratch",
        _LEVEL,
        writes=_in(_scratch, TRAINED_FILES),
        reads=_with_images(pruned=_in(_pruned, NET_FILES[:2]), finetuned=_in(_finetuned, ["metrics.json"])),
        after=_images,
        uses=chosen.for_scratch,
        builds=True,
        gpu=True,
    ),
    Stage(
        "evaluate",
        (*_LEVEL, "variant"),
        writes=_in(Layout.net, _EVALUATION),
        reads=_with_images(net=_in(Layout.net, NET_FILES[:2]), dense=_in(Layout.dense, _EVALUATION[:1])),
        after=_images,
        builds=True,
        gpu=True,
    ),
)
STAGES: dict[str, Stage] = {stage.name: stage for stage in _STAGES}
"""The stages that depend on the study, by the names of their rules."""


def stage_of(command: str, at: Coordinates) -> Stage:
    """Return the stage that a command runs at some coordinates.

    Args:
        command: Name of the command.
        at: The coordinates; a dense net is evaluated by a stage of its own.

    Returns:
        The stage.
    """
    return STAGES["evaluate_dense" if command == "evaluate" and at.variant == "dense" else command]

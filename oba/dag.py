"""The stages of the DAG: what each reads and writes, which slice of the study and which code it sees.

This is the one place that says so: the rules of the workflow are made from it, and so are the commands and the records
of the stages. Coordinates may be Snakemake wildcards such as ``"{seed}"`` where only paths are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from oba import registry
from oba.config import Study
from oba.data.fingerprint import fingerprint
from oba.data.types import INFO, PREPARED_FILES
from oba.layout import (
    DENSE_LONGER,
    NET_FILES,
    TRAINED_FILES,
    Coordinates,
    Layout,
    method_of,
    model_of,
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
        reads: Its inputs; a change of their content is a reason to run again.
        after: Files that must be there, too, of jobs that other inputs come from: no reason of their own to run again.
        sees: What its result depends on besides files, settings and code: a fingerprint.
        command: Of the command line, and the module in ``oba/stages``; the name if not given.
        uses: Registered entries whose code a job runs besides what its module imports, as (kind, name).
        builds: Whether it builds a model.
        gpu: Whether it runs on a GPU where the study wants one.
        priority: Of its jobs among those that could run.
    """

    name: str
    axes: tuple[str, ...]
    writes: Callable[[Layout, Coordinates], list[Path]]
    reads: Callable[[Study, Layout, Coordinates], Files] = NOTHING
    after: Callable[[Study, Layout, Coordinates], Files] = NOTHING
    sees: Callable[[Study, Layout], str] = lambda study, layout: ""
    command: str = ""
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
    def threads(self) -> str:
        """The key of the study's threads that holds for its jobs."""
        return {"scratch": "finetune"}.get(self.module, self.module)

    def record(self, layout: Layout, at: Coordinates) -> Path:
        """Return the file that a job writes last."""
        return self.writes(layout, at)[-1]

    def place(self, layout: Layout, at: Coordinates) -> str:
        """Return the name of a job: that of its record below the experiment's folder, without suffix."""
        return layout.within(self.record(layout, at))

    def options(self, at: Coordinates) -> str:
        """Return a job's options for the command line."""
        given = at.given()
        return " ".join(f"--{axis} {given[axis]}" for axis in (*_LEVEL, "variant") if axis in given)

    def roots(self, study: Study, at: Coordinates) -> list[str]:
        """Return the modules that the study chooses for a job, besides the stage's own."""
        chosen = [registry.module_name(kind, name) for kind, name in self.uses(study, at)]
        return chosen + ([f"oba.models.families.{family(model_of(study, at.model).name)}"] if self.builds else [])


def _data(layout: Layout) -> list[Path]:
    return [layout.data / INFO]


def _images(study: Study, layout: Layout, at: Coordinates) -> dict[str, list[Path]]:
    return {"data": _data(layout), "split": [layout.split(at.seed)]}


def _pixels(study: Study, layout: Layout, at: Coordinates) -> dict[str, list[Path]]:
    """The images themselves must be there; whether they changed is said by ``data.json``, which has their digest."""
    return {"images": [layout.data / name for name in PREPARED_FILES if name != INFO]}


def _level(layout: Layout, at: Coordinates) -> Path:
    return layout.level(at.model, at.seed, at.method, at.schedule, at.keep)


def _dense_inputs(study: Study, layout: Layout, at: Coordinates) -> Files:
    source = model_of(study, at.model).dense.source
    weights = [] if source in {"train", "pretrained"} else [Path(source)]
    return _images(study, layout, at) | ({"weights": weights} if weights else {})


def _prune_inputs(study: Study, layout: Layout, at: Coordinates) -> Files:
    start = start_of(study, layout, at)
    files = _images(study, layout, at) | {
        "structures": [layout.structures(at.model)],
        "start": [start / name for name in NET_FILES[:3]],
    }
    if at.method != DENSE_LONGER and (other := method_of(study, at.method).allocation.options.get("method")):
        pruned = layout.level(at.model, at.seed, other, at.schedule, at.keep) / "pruned"
        files["widths"] = [pruned / "plan.json"]
    return files


def _parts(study: Study, at: Coordinates) -> list[tuple[str, str]]:
    if at.method == DENSE_LONGER:
        return []
    method = method_of(study, at.method)
    return [(kind, getattr(method, kind).name) for kind in ("criterion", "allocation", "update")]


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "prepare",
            (),
            writes=lambda layout, at: [layout.data / name for name in (*PREPARED_FILES, "run.json")],
            sees=lambda study, layout: fingerprint(study.data, layout.root / ".state" / "source.jsonl"),
            uses=lambda study, at: [("data set", study.data.name)],
        ),
        Stage(
            "split",
            ("seed",),
            writes=lambda layout, at: [
                layout.split(at.seed),
                layout.split(at.seed).with_name(f"split-seed{at.seed}-run.json"),
            ],
            reads=lambda study, layout, at: {"data": _data(layout)},
            after=_pixels,
        ),
        Stage(
            "trace",
            ("model",),
            writes=lambda layout, at: [
                layout.structures(at.model),
                layout.structures(at.model).with_name("structures-run.json"),
            ],
            reads=lambda study, layout, at: {"data": _data(layout)},
            builds=True,
            priority=20,
        ),
        Stage(
            "dense",
            ("model", "seed"),
            writes=lambda layout, at: [layout.dense(at.model, at.seed) / name for name in TRAINED_FILES],
            reads=_dense_inputs,
            after=_pixels,
            builds=True,
            gpu=True,
            priority=10,
        ),
        Stage(
            "evaluate_dense",
            ("model", "seed"),
            command="evaluate",
            writes=lambda layout, at: [
                layout.dense(at.model, at.seed) / name for name in ("evaluation.json", "evaluation-run.json")
            ],
            reads=lambda study, layout, at: (
                _images(study, layout, at) | {"net": [layout.dense(at.model, at.seed) / name for name in NET_FILES[:2]]}
            ),
            after=_pixels,
            builds=True,
            gpu=True,
        ),
        Stage(
            "prune",
            _LEVEL,
            writes=lambda layout, at: [_level(layout, at) / "pruned" / name for name in NET_FILES],
            reads=_prune_inputs,
            after=_pixels,
            uses=_parts,
            builds=True,
            gpu=True,
        ),
        Stage(
            "finetune",
            _LEVEL,
            writes=lambda layout, at: [_level(layout, at) / "finetuned" / name for name in TRAINED_FILES],
            reads=lambda study, layout, at: (
                _images(study, layout, at)
                | {"pruned": [_level(layout, at) / "pruned" / name for name in NET_FILES[:3]]}
            ),
            after=_pixels,
            builds=True,
            gpu=True,
        ),
        Stage(
            "scratch",
            _LEVEL,
            writes=lambda layout, at: [_level(layout, at) / "scratch" / name for name in TRAINED_FILES],
            reads=lambda study, layout, at: (
                _images(study, layout, at)
                | {
                    "pruned": [_level(layout, at) / "pruned" / "plan.json"],
                    "finetuned": [_level(layout, at) / "finetuned" / "metrics.json"],
                }
            ),
            after=_pixels,
            builds=True,
            gpu=True,
        ),
        Stage(
            "evaluate",
            (*_LEVEL, "variant"),
            writes=lambda layout, at: [
                _level(layout, at) / at.variant / name for name in ("evaluation.json", "evaluation-run.json")
            ],
            reads=lambda study, layout, at: (
                _images(study, layout, at)
                | {
                    "net": [_level(layout, at) / at.variant / name for name in NET_FILES[:2]],
                    "dense": [layout.dense(at.model, at.seed) / "evaluation.json"],
                }
            ),
            after=_pixels,
            builds=True,
            gpu=True,
        ),
    )
}
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

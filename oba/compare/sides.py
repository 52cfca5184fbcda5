"""One side of a comparison: what kind of thing a path names, and what its files say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from oba.data.types import INFO
from oba.errors import ConfigError, FileError
from oba.files import read_json, read_record
from oba.layout import RESULTS
from oba.places import coordinates_of, experiment_of
from oba.records import Evaluation, JobRecord, Pruned, Trained
from oba.resolving import resolve_study
from oba.study import dump_study, load_resolved, read_study

KINDS = ("study", "experiment", "chain", "level", "net")
"""What can be compared: with another of its kind, a study with an experiment as well."""
_NAMES = {"chain": ("keep", "variant"), "level": ("variant",), "net": ()}
"""The coordinates that tell the nets of one side apart."""
_ALLOWED = "a study file (.yaml, study.json), an experiment (results/<name>, or its name), or a folder of one: a chain "
_ALLOWED += "(…/seed0/<method>-<schedule>), a level (…/keep0.50) or a net (…/finetuned, …/pruned, …/dense)"


class Ran(JobRecord):
    """``run.json``, as far as a comparison tells it."""

    model_config = ConfigDict(extra="ignore")

    stage: str
    at: dict[str, str] = Field(default={})
    oba: str = ""
    torch: str = ""
    python: str = ""
    host: str = ""
    device: str = ""
    threads: int | None = None
    git: dict[str, Any] = Field(default={})


@dataclass(frozen=True)
class Measures:
    """What is known of a net; accuracies are fractions, of the test images or, before evaluation, of validation."""

    test_top1: float | None = None
    val_top1: float | None = None
    macs: int | None = None
    parameters: int | None = None
    latency_ms: float | None = None


@dataclass(frozen=True)
class Side:
    """What one path stands for.

    Attributes:
        path: As people write it.
        kind: One of :data:`KINDS`.
        study: All settings of a study or experiment.
        at: The coordinates of a chain, level or net.
        jobs: The records of its jobs, by stage and the coordinates that tell them apart.
        data: What its images are, by dotted keys.
        nets: What its nets reach, by the coordinates that tell them apart.
    """

    path: Path
    kind: str
    study: dict[str, Any] = field(default_factory=dict)
    at: dict[str, str] = field(default_factory=dict)
    jobs: dict[tuple[str, ...], Ran] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    nets: dict[tuple[tuple[str, str], ...], Measures] = field(default_factory=dict)


def read_side(given: str, results: Path = RESULTS) -> Side:
    """Read what is to be compared.

    Args:
        given: A path, or the name of an experiment.
        results: Folder of the experiments.

    Returns:
        The side.

    Raises:
        FileError: If there is no such thing, or one of its files is damaged.
    """
    path = Path(given)
    if not path.exists() and "/" not in given and (results / given).is_dir():
        path = results / given
    if not path.exists():
        raise FileError(f"{given}: there is no such file or folder; allowed: {_ALLOWED}")
    if path.is_file():
        if path.suffix not in {".yaml", ".yml", ".json"}:
            raise FileError(f"{given}: no study file; allowed: {_ALLOWED}")
        return Side(path, "study", study=_study(path))
    root = experiment_of(path)
    if root is None:
        raise FileError(
            f"{given}: belongs to no experiment, for no folder above it has a study.json; allowed: {_ALLOWED}"
        )
    if root is path:
        return _experiment(path)
    return _part(path, root)


def check_kinds(a: Side, b: Side) -> None:
    """Refuse two sides that have nothing to compare.

    Raises:
        ConfigError: If they are of different kinds.
    """
    if a.kind != b.kind and {a.kind, b.kind} != {"study", "experiment"}:
        raise ConfigError(
            f"{a.path} is a{'n' * (a.kind == 'experiment')} {a.kind}, {b.path} a{'n' * (b.kind == 'experiment')} "
            f"{b.kind}; allowed: two of a kind, or a study and an experiment"
        )


def _study(path: Path) -> dict[str, Any]:
    """Return all settings of a study; one that another version resolved, as it stands."""
    if path.suffix != ".json":
        return dump_study(resolve_study(read_study(path), str(path)))
    try:
        return dump_study(load_resolved(path))
    except FileError:
        values = read_json(path)
        if not isinstance(values, dict) or "experiment" not in values:
            raise
        return values


def _experiment(root: Path) -> Side:
    study = _study(root / "study.json")
    methods = [str(method.get("name")) for method in study.get("methods", []) if isinstance(method, dict)]

    def place(folder: Path) -> tuple[Any, ...]:
        """Return what sorts nets as a report does: seeds of a net together, by method and falling level."""
        at = coordinates_of(folder, root)
        method = methods.index(at.method) if at.method in methods else len(methods)
        return (
            at.model,
            at.variant != "dense",
            at.schedule,
            method,
            at.method,
            [-ord(c) for c in at.keep],
            at.variant,
            at.seed,
        )

    folders = sorted([*root.glob("*/seed*/dense"), *root.glob("*/seed*/*/keep*/*")], key=place)
    jobs = {(run.stage, *run.at.values()): run for run in _jobs([root / "data", *sorted(root.glob("*/")), *folders])}
    nets = {tuple(coordinates_of(f, root).given().items()): measures for f in folders if (measures := _measures(f))}
    return Side(root, "experiment", study=study, jobs=jobs, data=_data(root), nets=nets)


def _part(path: Path, root: Path) -> Side:
    """Return a chain, level or net of an experiment."""
    at = coordinates_of(path, root)
    kind = "net" if at.variant else "level" if at.keep else "chain" if at.method else ""
    if not kind or not path.is_dir():
        raise FileError(f"{path}: nothing that can be compared; allowed: {_ALLOWED}")
    if kind == "net" and not (path / "plan.json").is_file():
        raise FileError(f"{path}: holds no stored net, for there is no plan.json; allowed: {_ALLOWED}")
    levels = sorted(path.glob("keep*"), reverse=True) if kind == "chain" else [path]
    folders = [path] if kind == "net" else [folder for level in levels for folder in sorted(level.glob("*/"))]
    made_from = [root / at.model / f"seed{at.seed}" / "dense"]
    if kind == "net" and at.keep:
        made_from.append(path.with_name("pruned"))
    jobs = {}
    for run in _jobs(dict.fromkeys([*made_from, *folders])):
        own = [run.at[axis] for axis in _NAMES[kind] if axis in run.at]
        jobs[run.stage, *(own if "method" in run.at or kind == "net" else ["dense"])] = run
    nets = {}
    for folder in folders:
        if measures := _measures(folder, pruned=kind == "net"):
            given = coordinates_of(folder, root).given()
            nets[tuple((axis, given[axis]) for axis in _NAMES[kind])] = measures
    data = {
        key.replace(f".seed{at.seed}.", "."): value for key, value in _data(root, f"split-seed{at.seed}.json").items()
    }
    return Side(path, kind, at=at.given(), jobs=jobs, data=data, nets=nets)


def _jobs(folders: Any) -> Iterator[Ran]:
    """Read the records of the jobs that left some folders."""
    for folder in folders:
        for path in sorted(folder.glob("*run.json")):
            yield read_record(path, Ran)


def _measures(folder: Path, *, pruned: bool = False) -> Measures | None:
    """Read what a net reaches; of one that was not evaluated nothing, unless it is asked for itself."""
    if (path := folder / "evaluation.json").is_file():
        found = read_record(path, Evaluation)
        return Measures(found.test.top1, None, found.cost.macs, found.cost.parameters, found.latency.median_ms)
    if not pruned or not (path := folder / "metrics.json").is_file():
        return None
    if folder.name == "pruned":
        metrics = read_record(path, Pruned)
        return Measures(val_top1=metrics.val.top1, macs=metrics.macs)
    return Measures(val_top1=read_record(path, Trained).val.top1)


def _data(root: Path, splits: str = "split-seed*.json") -> dict[str, Any]:
    """Return what an experiment's images are and how they are divided, where that is known."""
    info, found = root / "data" / INFO, {}
    if info.is_file():
        values = read_json(info)
        shown = ("digest", "name", "train_images", "val_images", "test_images", "input_size")
        found = {key: values.get(key) for key in shown}
        found["classes"] = len(values.get("classes", ()))
    for path in sorted((root / "data").glob(splits)):
        if not path.name.endswith("-run.json"):
            head = read_json(path)
            seed = path.stem.removeprefix("split-")
            found |= {f"splits.{seed}.{key}": head.get(key) for key in ("digest", "sizes")}
    return found

"""Where every stage's files lie, and which nets a sweep consists of.

The Snakefile and the stages ask here, so a path is written down once. Coordinates may be Snakemake
wildcards such as ``"{seed}"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path

from oba.config import ModelConfig, Study, SweepMethod
from oba.errors import ConfigError
from oba.models.names import slug
from oba.recipes import FinetuneConfig

RESULTS = Path("results")
DENSE_LONGER = "dense-longer"
"""The control that walks through a chain's levels and removes nothing."""


NET_FILES = ("model.safetensors", "plan.json", "metrics.json", "run.json")
"""What every stage that leaves a net writes, the record last."""
TRAINED_FILES = (*NET_FILES[:-1], "history.csv", NET_FILES[-1])
"""The same for nets that were trained."""
SCORES = "scores.safetensors"
"""What a prune stage leaves besides, where its method keeps scores."""


@dataclass(frozen=True)
class Coordinates:
    """Coordinates in a sweep; those that do not apply are empty.

    Attributes:
        model: The model's slug.
        seed: The seed.
        method: A method, or ``dense-longer``.
        schedule: ``iterative`` or ``oneshot``.
        keep: A level's name, two decimals.
        variant: Of an evaluated net: ``dense``, ``finetuned`` or ``scratch``.
    """

    model: str = ""
    seed: int | None = None
    method: str = ""
    schedule: str = ""
    keep: str = ""
    variant: str = ""

    def given(self) -> dict[str, str]:
        """Return the coordinates that apply, as text."""
        return {name: str(value) for name, value in asdict(self).items() if value not in {"", None}}


@dataclass(frozen=True)
class Layout:
    """The paths of one experiment."""

    experiment: str
    results: Path = RESULTS

    @cached_property
    def root(self) -> Path:
        """The experiment's folder."""
        return self.results / self.experiment

    @property
    def study(self) -> Path:
        """The resolved study that the stages read."""
        return self.root / "study.json"

    @cached_property
    def data(self) -> Path:
        """The prepared images."""
        return self.root / "data"

    @property
    def journals(self) -> Path:
        """What every stage reported, and how much of it MLflow has."""
        return self.root / "journal"

    @property
    def report(self) -> Path:
        """Tables and pictures."""
        return self.root / "report"

    @property
    def image_states(self) -> Path:
        """What is remembered of the data set's own files since it was prepared."""
        return self.root / ".state" / "source.npz"

    @property
    def made_by(self) -> Path:
        """By what kinds of jobs (``job_per``) files were made."""
        return self.root / ".state" / "job_per.json"

    def split(self, at: Coordinates) -> Path:
        """Return the file of one seed's splits; what part each image belongs to lies beside it."""
        return self.data / f"split-seed{at.seed}.json"

    def structures(self, at: Coordinates) -> Path:
        """Return the file of one model's prunable structures."""
        return self.root / at.model / "structures.json"

    def dense(self, at: Coordinates) -> Path:
        """Return the folder of one dense net."""
        return self.root / f"{at.model}/seed{at.seed}/dense"

    def chain(self, at: Coordinates) -> Path:
        """Return the folder of one chain."""
        return self.root / f"{at.model}/seed{at.seed}/{at.method}-{at.schedule}"

    def level(self, at: Coordinates) -> Path:
        """Return the folder of one level of a chain."""
        return self.chain(at) / f"keep{at.keep}"

    def net(self, at: Coordinates) -> Path:
        """Return the folder of an evaluated net."""
        return self.dense(at) if at.variant == "dense" else self.level(at) / at.variant

    def log(self, output: Path) -> Path:
        """Return the log of the job that writes a file as its main output or record."""
        return self.root / "logs" / output.relative_to(self.root).with_suffix(".log")

    def times(self, record: Path) -> Path:
        """Return the file in which Snakemake keeps the time and memory of the job that leaves a record."""
        return self.root / "benchmarks" / record.relative_to(self.root).with_suffix(".tsv")

    def state(self, record: Path) -> Path:
        """Return the folder of the job that leaves a record: its lock, resumable state and finished work."""
        return self.root / ".state" / self.within(record)

    def within(self, path: Path) -> str:
        """Return a path below the experiment's folder as a name without its suffix."""
        return path.relative_to(self.root).with_suffix("").as_posix()


def level_name(keep: float) -> str:
    """Return a level as paths write it, ``0.30``."""
    return f"{keep:.2f}"


def name_of(job: str, at: Coordinates) -> str:
    """Return a job's name for people, such as ``dense resnet8 seed0``.

    What tells jobs apart comes first, because lists of runs cut names short.

    Args:
        job: Its stage's command; nothing for what has no stage, such as a chain.
        at: Its coordinates.

    Returns:
        Words such as ``seed0`` and ``keep0.30``.
    """
    given = at.given()
    order = ("method", "schedule", "keep", "variant", "model", "seed")
    words = [f"{name}{given[name]}" if name in {"seed", "keep"} else given[name] for name in order if name in given]
    return " ".join([job, *words] if job else words)


def start_of(study: Study, layout: Layout, at: Coordinates) -> Path:
    """Return the folder of the net that a level starts from.

    Args:
        study: The study, for its levels.
        layout: Its paths.
        at: The level.

    Returns:
        The previous level's fine-tuned net in an iterative chain, else the dense net.
    """
    levels = [level_name(k) for k in study.keep]
    position = levels.index(at.keep)
    if at.schedule == "oneshot" or position == 0:
        return layout.dense(at)
    return layout.level(replace(at, keep=levels[position - 1])) / "finetuned"


def models_by_slug(study: Study) -> dict[str, str]:
    """Return the study's model names by the slugs that paths use."""
    return {slug(model.name): model.name for model in study.models}


def model_of(study: Study, model: str) -> ModelConfig:
    """Return the model that has a slug."""
    return next(m for m in study.models if slug(m.name) == model)


def method_of(study: Study, method: str) -> SweepMethod:
    """Return the method that has a name."""
    return next(m for m in study.methods if m.name == method)


def require_job(study: Study, at: Coordinates) -> None:
    """Refuse coordinates that name nothing in a study, or no folder of their own.

    They come from a command line; or from a job that was started for an earlier study and has waited since.

    Args:
        study: The study.
        at: Coordinates of one job; those that are not given are passed over.

    Raises:
        ConfigError: If there is no such model, method or level in the study, or never such a seed, schedule or net.
    """
    allowed: dict[str, Sequence[object]] = {
        "model": list(models_by_slug(study)),
        "method": [*(method.name for method in study.methods), DENSE_LONGER],
        "schedule": ["iterative", "oneshot"],
        "keep": [level_name(k) for k in study.keep],
        "variant": ["dense", "finetuned", "scratch"],
        "seed": range(2**63),
    }
    for axis, given in at.given().items():
        if getattr(at, axis) not in allowed[axis]:
            named = "0 to 2**63 - 1" if axis == "seed" else ", ".join(map(str, allowed[axis]))
            raise ConfigError(f"--{axis}: got {given!r}; allowed: {named}")


def finetune_of(study: Study, at: Coordinates) -> FinetuneConfig:
    """Return how the pruned nets of a chain are trained on: as its method says, or the study."""
    return study.finetune if at.method == DENSE_LONGER else method_of(study, at.method).finetune


def first_methods(study: Study) -> list[str]:
    """Return the methods that the others are compared with: the first of each granularity."""
    firsts = {method.granularity: method.name for method in reversed(study.methods)}
    return [method.name for method in study.methods if method.name in firsts.values()]


def prunes_weights(study: Study, at: Coordinates) -> bool:
    """Return whether the method at some coordinates removes single weights."""
    return at.method not in {"", DENSE_LONGER} and method_of(study, at.method).granularity == "weights"


def nets(study: Study) -> list[Coordinates]:
    """Return the evaluated nets of a sweep: the product of the study's lists.

    Args:
        study: The study.

    Returns:
        One entry per evaluated net, the dense nets first.
    """
    dense = list(product(models_by_slug(study), study.seeds))
    levels = list(product(study.schedules, map(level_name, study.keep)))
    variants = ["finetuned", "scratch"] if "scratch" in study.controls else ["finetuned"]
    found = [Coordinates(model, seed, variant="dense") for model, seed in dense]
    found += [
        Coordinates(model, seed, method.name, schedule, keep, variant)
        for (model, seed), method, (schedule, keep), variant in product(dense, study.methods, levels, variants)
    ]
    if DENSE_LONGER in study.controls:
        found += [
            Coordinates(model, seed, DENSE_LONGER, schedule, keep, "finetuned")
            for (model, seed), (schedule, keep) in product(dense, levels)
        ]
    return found

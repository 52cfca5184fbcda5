"""The study file: strict, typed, documented; its JSON schema is made from here.

A study is one experiment: a data set and a sweep (models × seeds × methods × schedules × levels of
``keep``) with the settings of every stage. Unknown keys are refused. Names of models, data sets, criteria,
allocations and updates, and the options of the latter three, are checked one level above
(:mod:`oba.study`), where the registries are known. What a study file may leave out is filled in there before
it comes here: here everything is given.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from oba.addresses import has_credentials
from oba.datasets import AugmentConfig, CalibrationConfig, DataConfig, SplitsConfig
from oba.machine import GpusConfig, RuntimeConfig, ThreadsConfig
from oba.recipes import DenseConfig, FinetuneConfig, ScratchConfig
from oba.section import Fraction, Name, Section

Granularity = Literal["structures", "weights"]
Descent = Literal["linear", "exponential", "cubic"]


class StructuresConfig(Section):
    """What may be removed."""

    ignore: list[Name] = Field(default=[])
    """Layers whose outputs, and whose weights, stay whole: module names, or patterns such as `layer3.*`."""
    channels: bool = True
    """Whether channels and neurons inside of blocks may go."""
    residual_streams: bool = False
    """Whether channels of residual streams, coupled over all blocks of a stage, may go."""
    heads: bool = True
    """Whether attention heads may go."""
    head_dims: bool = False
    """Whether dimensions of attention may go, alike in all heads: of queries with keys, and of values."""


def _named(value: object) -> object:
    """Read a bare name as a choice without options."""
    return {"name": value} if isinstance(value, str) else value


class Choice(BaseModel):
    """An entry of a registry, with the options that are given to it.

    A bare name, or `name` with options of its own; which there are is checked where the registries are known.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, use_attribute_docstrings=True)

    name: Name
    """The entry's registered name."""

    @property
    def options(self) -> dict[str, Any]:
        """The options that are given."""
        return dict(self.model_extra or {})


Chosen = Annotated[Choice, BeforeValidator(_named, json_schema_input_type=str | Choice)]


class Floors(Section):
    """How little a layer may keep."""

    max_removed: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """At most this fraction of one layer's channels goes, counted from the dense net."""
    min_channels: Annotated[int, Field(ge=1)] = 1
    """A layer keeps at least as many channels."""
    round_to: Annotated[int, Field(ge=1)] = 1
    """Kept channels are a multiple of this wherever the dense layer allows (8 suits GPUs)."""


class MethodDefaults(Section):
    """What methods do unless they say otherwise."""

    criterion: dict[str, Any] = Field(default={})
    """Options of criteria, for those that have them: `{norm: train}`."""
    allocation: Chosen = Choice(name="global")
    """How much goes where: `global`, `per-mac`, `uniform`, `given`, `error-curves`."""
    update: Chosen = Choice(name="norm")
    """How the survivors adjust after a cut: `none`, `norm`, `bias`, `least-squares`, `mask-space`."""
    granularity: Granularity = "structures"
    """What goes: `structures` (channels with everything coupled to them), or single `weights`."""
    rounds: Annotated[int, Field(ge=1)] = 4
    """Times that a level is approached with new scores."""
    descent: Descent = "linear"
    """How the rounds of a level step down from what is kept before: `linear`, `exponential` (each round keeps the same
    fraction of what is left) or `cubic` (large steps first)."""
    floors: Floors = Floors()
    keep_scores: bool = False
    """Whether `prune` keeps the scores of all rounds in `scores.safetensors`."""


_TAKEN = ("mlartifacts", "mlruns", "readme.md")
_DATABASE = "mlflow.db"
LONGEST_NAME = 100
"""Characters of a name that becomes a folder: file systems allow 255 bytes, and some parts are added."""
RESERVED = ("dense", "dense-longer")
"""Names that the dense net and the control have in tables and paths."""
PARTS = ("criterion", "allocation", "update")
"""What a method consists of: who goes, how much goes where, how the survivors adjust."""
METHOD_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"


class MethodConfig(Section):
    """One method: who goes (criterion) x how much goes where (allocation) x how the survivors adjust (update).

    What is not given is taken from `method_defaults`.
    """

    name: Annotated[str, Field(pattern=METHOD_NAME, max_length=LONGEST_NAME)]
    """What paths, tables and MLflow call it; the criterion's name if not given."""
    criterion: Chosen
    """How structures are scored, with the options that this criterion has."""
    allocation: Chosen
    """How much goes where."""
    update: Chosen
    """How the survivors adjust after a cut."""
    granularity: Granularity
    """What goes. With `weights`, `keep` is a fraction of the weights of Conv, Linear and attention layers that
    `structures.ignore` does not name; biases, norms and other bare parameters stay."""
    rounds: Annotated[int, Field(ge=1)]
    """Times that a level is approached with new scores."""
    descent: Descent
    """How the rounds of a level step down."""
    floors: Floors | None
    """How little a layer may keep; of `structures` only."""
    keep_scores: bool
    """Whether `prune` keeps the scores of all rounds."""

    @model_validator(mode="after")
    def _floors_are_of_structures(self) -> Self:
        if self.granularity == "weights" and self.floors is not None:
            raise ValueError("floors are given, but granularity is 'weights'; allowed with granularity: structures")
        if self.granularity == "structures" and self.floors is None:
            raise ValueError("floors is null; allowed with granularity: weights")
        return self

    def kind(self, part: str) -> str:
        """Return the kind of registered entry that a part of this method is."""
        return "weight allocation" if part == "allocation" and self.granularity == "weights" else part


class SweepMethod(MethodConfig):
    """A method as a study has it: with how its pruned nets are trained on."""

    finetune: FinetuneConfig
    """What differs from the study's `finetune`, such as `{lr: 1e-2}`."""


class EvaluationConfig(Section):
    """How nets are measured."""

    batch_size: Annotated[int, Field(ge=1)] = 256
    """Images per batch."""
    latency_batch: Annotated[int, Field(ge=1)] = 32
    """Images per batch while timing; pruned and dense net are timed in turns."""
    latency_runs: Annotated[int, Field(ge=3)] = 30
    """Timed turns; the median counts."""


class TrackedModels(Section):
    """Nets in MLflow's *Models*."""

    max_mb: Annotated[float, Field(ge=0)] = 50
    """Weights of at most so many megabytes are uploaded, and `mlflow.pyfunc.load_model` loads them. A larger net is
    listed all the same, with its measures and where its files are; 0 uploads none."""


class TrackingConfig(Section):
    """Where MLflow mirrors the results, and what it gets."""

    uri: str | None = None
    """Tracking server or store. Without it: the environment's MLFLOW_TRACKING_URI, else SQLite under `results/`. No
    password: that belongs in the environment (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or PGPASSWORD)."""
    models: TrackedModels = TrackedModels()
    system_metrics: bool = True
    """Whether stages that take longer than 20 s report how busy processors, memory and GPUs are."""

    @field_validator("uri")
    @classmethod
    def _has_no_password(cls, uri: str | None) -> str | None:
        if uri and has_credentials(uri):
            raise ValueError(
                "an address with a password or token does not belong in a study, which is copied and read by many; "
                "allowed: the address without it, and MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or "
                "PGPASSWORD) in the environment, or the whole address there as MLFLOW_TRACKING_URI"
            )
        return uri


PRESETS: dict[str, dict[str, Any]] = {
    "oba-cifar": {
        "calibration": {"images": 12800, "batch_size": 64},
        "augment": {"crop": "pad", "padding": 4, "flip": True},
        "dense": {"epochs": 200, "lr": 0.1, "schedule": "step", "milestones": [60, 100, 150], "weight_decay": 5e-4},
        "finetune": {"epochs": 150, "lr": 1e-3, "schedule": "step", "milestones": [80, 120], "weight_decay": 5e-4},
        "method_defaults": {"criterion": {"norm": "train"}, "allocation": "global", "floors": {"max_removed": 0.95}},
    }
}
"""Settings of the paper (Sun et al., ICLR 2025, section 5 and the authors' code for the dense training)."""


class ModelConfig(Section):
    """One net of the sweep, with what it has of its own."""

    name: Annotated[Name, Field(max_length=LONGEST_NAME)]
    """`resnet20`, `resnet32x4` (four times as wide), `vgg19`, `timm/<name>`, `torchvision/<name>`."""
    dense: DenseConfig
    """Where its dense net comes from; keys that are not given are those of the study's `dense`."""
    structures: StructuresConfig
    """What may be removed from it; keys that are not given are those of the study's `structures`."""


class Study(Section):
    """One experiment."""

    experiment: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=LONGEST_NAME)]
    """Name of the experiment: the folder under `results/` and the MLflow experiment."""
    preset: Literal["oba-cifar"] | None = None
    """Settings to start from; keys given in this file win. `oba-cifar`: the paper's on CIFAR."""
    data: DataConfig
    models: Annotated[list[ModelConfig], Field(min_length=1)]
    """Nets: names, or mappings with `name` and what differs from the study's `dense` and `structures`."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)]
    """Each seed draws its own splits, initial weights and batches."""
    methods: Annotated[list[SweepMethod], Field(min_length=1)]
    """Who goes, how much goes where, how the survivors adjust: names of criteria, or mappings; the first method is what
    the others are compared with."""
    method_defaults: MethodDefaults = MethodDefaults()
    schedules: list[Literal["iterative", "oneshot"]] = Field(default=["iterative"], min_length=1)
    """`iterative`: each level starts from the previous level's fine-tuned net; `oneshot`: each from the dense net."""
    keep: Annotated[list[Fraction], Field(min_length=1)]
    """Levels: fractions of the dense net's MACs that are kept, or of its weights by methods with
    `granularity: weights`; decreasing multiples of 0.01."""
    controls: list[Literal["scratch", "dense-longer"]] = Field(default=[])
    """`scratch`: each pruned architecture trained from new weights, by the dense recipe over as many epochs as its
    pruned net had in all, or by the recipe `scratch`; `dense-longer`: the dense net given the fine-tuning epochs,
    nothing removed."""
    job_per: Literal["stage", "level"] = "stage"
    """What one job of the workflow runs: one `stage`, or all stages of a `level`, one after the other: a third of the
    jobs, for large sweeps and for clusters where jobs wait long. The results are the same."""
    splits: SplitsConfig = SplitsConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    augment: AugmentConfig = AugmentConfig()
    dense: DenseConfig
    structures: StructuresConfig = StructuresConfig()
    finetune: FinetuneConfig
    scratch: ScratchConfig | None = None
    """Recipe of the control `scratch`. It must be given where a dense net comes from elsewhere (`dense.from` is not
    `train`): then nobody knows for how many epochs, and by which recipe, its weights were trained."""
    evaluation: EvaluationConfig = EvaluationConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    threads: ThreadsConfig = ThreadsConfig()
    gpus: GpusConfig = GpusConfig()
    tracking: TrackingConfig = TrackingConfig()

    @field_validator("experiment")
    @classmethod
    def _lies_beside_nothing_else(cls, value: str) -> str:
        if value.lower() in _TAKEN or value.lower().startswith(_DATABASE):
            raise ValueError(
                f"got {value!r}, but results/ keeps something else under this name; allowed: any but "
                f"{', '.join(_TAKEN)} and what starts with {_DATABASE}"
            )
        return value

    @model_validator(mode="after")
    def _sweep_is_a_set(self) -> Self:
        named = {"models": [m.name for m in self.models], "methods": [m.name for m in self.methods]}
        for key in ("models", "seeds", "methods", "schedules", "controls"):
            values: list[Any] = named.get(key) or getattr(self, key)
            if len(set(values)) != len(values):
                hint = "; give methods of one criterion names of their own" if key == "methods" else ""
                raise ValueError(f"{key}: {values} names something twice; allowed: each entry once{hint}")
        if reserved := [name for name in named["methods"] if name in RESERVED]:
            raise ValueError(
                f"methods: {reserved[0]!r} is a name of the pipeline's own; allowed: any but {', '.join(RESERVED)}"
            )
        if any(abs(level * 100 - round(level * 100)) > 1e-9 for level in self.keep):
            raise ValueError(f"keep: levels {self.keep} must be multiples of 0.01")
        if any(b >= a for a, b in zip(self.keep, self.keep[1:], strict=False)):
            raise ValueError(f"keep: levels {self.keep} must decrease, for example [0.7, 0.5, 0.3]")
        return self

    @model_validator(mode="after")
    def _scratch_has_a_recipe(self) -> Self:
        foreign = [model.name for model in self.models if model.dense.source != "train"]
        if "scratch" in self.controls and self.scratch is None and foreign:
            raise ValueError(
                f"controls: 'scratch' has no recipe for {', '.join(foreign)}, whose dense net is not trained here "
                "(dense.from); allowed: with a section scratch (epochs, lr, ...)"
            )
        return self

"""The study file: strict, typed, documented; its JSON schema is made from here.

A study is one experiment: a data set and a sweep (models × seeds × criteria × schedules × levels of
``keep``) with the settings of every stage. Unknown keys are refused. Names of models, data sets and
criteria are checked one level above (:mod:`oba.study`), where the registries are known.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _scientific(value: object) -> object:
    """Read ``1e-3``, which YAML 1.1 takes for text, as the number it is meant to be."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Number = Annotated[float, BeforeValidator(_scientific), Field(allow_inf_nan=False)]
Fraction = Annotated[float, BeforeValidator(_scientific), Field(gt=0, lt=1)]
Name = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A part of the study file: no unknown keys, no silent conversions, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class DataConfig(Section):
    """Which images."""

    name: Name
    """Data set: `digits`, `imagefolder`, `cifar10` or `cifar100`."""
    root: str | None = None
    """Folder of the images (`imagefolder`), or where torchvision keeps or downloads CIFAR. `digits` needs none."""
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = None
    """Edge in pixels that images are resized and centre-cropped to; without it they must all have one size."""
    normalization: Literal["dataset", "imagenet"] = "dataset"
    """Channel means and standard deviations: of the data set's training images, or ImageNet's (pretrained nets)."""
    duplicates: Literal["warn", "error"] = "warn"
    """On identical images in two of `train`, `val` and `test`: `warn` counts them for the report, `error` stops."""


class SplitsConfig(Section):
    """How images are divided; drawn with the sweep's seed and recorded."""

    val: Fraction = 0.1
    """Fraction of the training images that are held out to choose and to watch; the rest trains."""
    test: Fraction = 0.2
    """Fraction of all images that becomes the test set where the data set has no test set of its own."""
    calibration: Annotated[int, Field(ge=1)] = 512
    """Number of training images, without augmentation, that scoring and norm recalibration use."""


class AugmentConfig(Section):
    """Random changes of training images."""

    crop: Literal["none", "pad", "resized"] = "none"
    """`pad`: zero-pad and crop back (small images); `resized`: random area and aspect, resized (large images)."""
    padding: Annotated[int, Field(ge=1, le=64)] = 4
    """Pixels added on every side by `crop: pad`."""
    flip: bool = False
    """Mirror half of the images left to right; wrong for digits and letters."""


class TrainConfig(Section):
    """One run of SGD."""

    epochs: Annotated[int, Field(ge=0)]
    """Passes over the training images."""
    batch_size: Annotated[int, Field(ge=1)] = 128
    """Images per step."""
    lr: Annotated[Number, Field(gt=0)] = 0.1
    """Learning rate at the start (after warm-up)."""
    momentum: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    """SGD momentum."""
    nesterov: bool = False
    """Nesterov's form of momentum."""
    weight_decay: Annotated[Number, Field(ge=0)] = 5e-4
    """L2 penalty on all parameters."""
    schedule: Literal["step", "cosine"] = "cosine"
    """`step`: times `gamma` at each milestone; `cosine`: to zero over all epochs."""
    milestones: list[Annotated[int, Field(ge=1)]] = []
    """Epochs at which `schedule: step` lowers the learning rate."""
    gamma: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    """Factor of `schedule: step`."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs in which the learning rate rises linearly to `lr`."""
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Weight of the uniform distribution in the target."""
    select: Literal["last", "best"] = "last"
    """Which epoch's weights count: the last, or the best on `val`."""

    @model_validator(mode="after")
    def _milestones_fit(self) -> Self:
        if self.schedule == "step" and sorted(set(self.milestones)) != self.milestones:
            raise ValueError(f"milestones {self.milestones} must increase")
        if self.milestones and self.schedule != "step":
            raise ValueError("milestones are given, but schedule is 'cosine'; allowed with schedule: step")
        if self.milestones and self.milestones[-1] >= max(self.epochs, 1):
            raise ValueError(f"milestones {self.milestones} must lie before the last of {self.epochs} epochs")
        if self.warmup_epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be fewer than epochs {self.epochs}")
        return self


class DenseConfig(TrainConfig):
    """Where the dense net comes from, and how it is trained."""

    source: Name = Field(default="train", alias="from")
    """`train` (from random weights), `pretrained` (the library's weights, downloaded) or a weight file's path.
    With the latter two, `epochs` may be 0: take the net as it is."""

    @model_validator(mode="after")
    def _trains(self) -> Self:
        if self.source == "train" and self.epochs == 0:
            raise ValueError("epochs is 0, but dense.from is 'train'; allowed: at least 1 epoch")
        return self


class StructuresConfig(Section):
    """What may be removed."""

    ignore: list[Name] = []
    """Layers whose outputs stay whole: module names, or patterns such as `layer3.*`."""
    residual_streams: bool = False
    """Whether channels of residual streams, coupled over all blocks of a stage, may go too."""


class ScoringConfig(Section):
    """How scores are computed on the calibration images and reduced to structures."""

    batch_size: Annotated[int, Field(ge=1)] = 64
    """Images per batch; the calibration images are cut into such batches, the same for every criterion."""
    norm: Literal["eval", "train"] = "eval"
    """Statistics that batch norm uses while scoring: frozen (`eval`) or of the batch (`train`, as in the paper)."""
    order: Annotated[int, Field(ge=1)] = 2
    """Order k of `oba-exact`: 2 is the Hessian-vector product, 1 is `taylor`; above 2 the cost doubles with each."""
    magnitude: Literal["l1", "l2"] = "l1"
    """What `magnitude` adds up: absolute values or squares."""
    hessian: Literal["auto", "exact", "gauss-newton", "probes"] = "auto"
    """How `oba-diag` and `oba-joint` get the Hessian with respect to structures: by exact rows, by Gauss-Newton (which
    holds for `norm: eval`) or, the diagonal alone, by random probes. `auto`: Gauss-Newton where it holds."""
    samples: Annotated[int, Field(ge=2)] = 16
    """Number of probes, or of classes that Gauss-Newton draws for an image where there are more."""
    keep_scores: bool = False
    """Whether `prune` keeps the scores of all rounds in `scores.safetensors`."""
    over_batches: Literal["abs-of-mean", "mean-of-abs", "rms"] = "abs-of-mean"
    """How the signed scores of a structure are joined over batches; `abs-of-mean` is the paper's."""
    over_layers: Literal["mean", "sum"] = "mean"
    """How the scores of a structure's slices in its coupled layers are joined; `mean` is the paper's."""
    normalizer: Literal["max", "mean", "sum", "l2", "none"] = "max"
    """What a group's scores are divided by before the global ranking; `max` is the paper's."""


class PruningConfig(Section):
    """How a level of `keep` is reached."""

    rounds: Annotated[int, Field(ge=1)] = 4
    """Times that scores are computed anew on the way to a level; each round removes an equal share of MACs."""
    rank: Literal["score", "per-mac"] = "score"
    """What goes first: the lowest `score`; or the lowest score `per-mac` saved by the removal, counted anew after each
    one, where negative scores go before all others, the lowest first."""
    max_removed: Annotated[Number, Field(gt=0, lt=1)] = 0.95
    """Floor: at most this fraction of one layer's channels goes, counted from the dense net."""
    min_channels: Annotated[int, Field(ge=1)] = 1
    """Floor: a layer keeps at least as many channels."""
    round_to: Annotated[int, Field(ge=1)] = 1
    """Kept channels are a multiple of this wherever the dense layer allows (8 suits GPUs)."""
    recalibrate_norm: bool = False
    """Whether batch-norm statistics are measured anew on the calibration images after pruning."""


class EvaluationConfig(Section):
    """How nets are measured."""

    batch_size: Annotated[int, Field(ge=1)] = 256
    """Images per batch."""
    latency_batch: Annotated[int, Field(ge=1)] = 32
    """Images per batch while timing; pruned and dense net are timed in turns."""
    latency_runs: Annotated[int, Field(ge=3)] = 30
    """Timed turns; the median counts."""


class RuntimeConfig(Section):
    """On what the stages run. Part of every result's provenance."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of training: `bf16` is autocast; scores and weights stay in fp32."""


class ThreadsConfig(Section):
    """CPU threads per job. Results repeat bit for bit only with the same number."""

    dense: Annotated[int, Field(ge=1)] = 1
    """Threads of the dense training."""
    prune: Annotated[int, Field(ge=1)] = 1
    """Threads of scoring and pruning."""
    finetune: Annotated[int, Field(ge=1)] = 1
    """Threads of fine-tuning and of the controls."""
    evaluate: Annotated[int, Field(ge=1)] = 1
    """Threads of evaluation and of the latency measured there."""


class TrackingConfig(Section):
    """Where MLflow mirrors the results."""

    uri: str | None = None
    """Tracking server or store. Without it: the environment's MLFLOW_TRACKING_URI, else SQLite under `results/`."""


_CIFAR_SCORING: dict[str, Any] = {
    "batch_size": 64,
    "norm": "train",
    "over_batches": "abs-of-mean",
    "over_layers": "mean",
    "normalizer": "max",
}
PRESETS: dict[str, dict[str, Any]] = {
    "oba-cifar": {
        "splits": {"calibration": 12800},
        "augment": {"crop": "pad", "padding": 4, "flip": True},
        "dense": {"epochs": 200, "lr": 0.1, "schedule": "step", "milestones": [60, 100, 150], "weight_decay": 5e-4},
        "finetune": {"epochs": 150, "lr": 1e-3, "schedule": "step", "milestones": [80, 120], "weight_decay": 5e-4},
        "scoring": _CIFAR_SCORING,
        "pruning": {"max_removed": 0.95},
    }
}
"""Settings of the paper (Sun et al., ICLR 2025, section 5 and the authors' code for the dense training)."""


class Study(Section):
    """One experiment."""

    experiment: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the experiment: the folder under `results/` and the MLflow experiment."""
    preset: Literal["oba-cifar"] | None = None
    """Settings to start from; keys given in this file win. `oba-cifar`: the paper's on CIFAR."""
    data: DataConfig
    models: Annotated[list[Name], Field(min_length=1)]
    """Nets: `resnet20`, `resnet32x4` (four times as wide), `vgg19`, `timm/<name>`, `torchvision/<name>`."""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """Each seed draws its own splits, initial weights and batches."""
    criteria: Annotated[list[Name], Field(min_length=1)]
    """How structures are scored; the first one is what the others are compared with."""
    schedules: Annotated[list[Literal["iterative", "oneshot"]], Field(min_length=1)] = ["iterative"]
    """`iterative`: each level starts from the previous level's fine-tuned net; `oneshot`: each from the dense net."""
    keep: Annotated[list[Fraction], Field(min_length=1)]
    """Levels: fractions of the dense net's MACs that are kept, decreasing multiples of 0.01."""
    controls: list[Literal["scratch", "dense-longer"]] = []
    """`scratch`: each pruned architecture trained from new weights for as many epochs as its pruned net had in all;
    `dense-longer`: the dense net given the fine-tuning epochs, nothing removed."""
    splits: SplitsConfig = SplitsConfig()
    augment: AugmentConfig = AugmentConfig()
    dense: DenseConfig
    structures: StructuresConfig = StructuresConfig()
    scoring: ScoringConfig = ScoringConfig()
    pruning: PruningConfig = PruningConfig()
    finetune: TrainConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    threads: ThreadsConfig = ThreadsConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _hessian_holds(self) -> Self:
        if self.scoring.hessian == "gauss-newton" and self.scoring.norm == "train":
            raise ValueError(
                "scoring.hessian: 'gauss-newton' needs examples that do not depend on each other, but scoring.norm is "
                "'train'; allowed: norm eval, or hessian auto, exact or probes"
            )
        if self.scoring.hessian == "probes" and "oba-joint" in self.criteria:
            raise ValueError(
                "scoring.hessian: 'probes' estimates the diagonal alone, but criteria names 'oba-joint'; allowed: "
                "auto, exact or gauss-newton"
            )
        return self

    @model_validator(mode="after")
    def _sweep_is_a_set(self) -> Self:
        for key in ("models", "seeds", "criteria", "schedules", "controls"):
            values = getattr(self, key)
            if len(set(values)) != len(values):
                raise ValueError(f"{key}: {values} names something twice; allowed: each entry once")
        if any(abs(level * 100 - round(level * 100)) > 1e-9 for level in self.keep):
            raise ValueError(f"keep: levels {self.keep} must be multiples of 0.01")
        if any(b >= a for a, b in zip(self.keep, self.keep[1:], strict=False)):
            raise ValueError(f"keep: levels {self.keep} must decrease, for example [0.7, 0.5, 0.3]")
        return self

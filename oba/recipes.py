"""The sections of a study file that say how a net is trained."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from oba.section import Name, Section

_BETA2 = 0.999


class EmaConfig(Section):
    """An exponential moving average of the weights and of the norms' statistics, updated at every step."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.9999
    """Share of the average that stays at each step."""
    warmup: bool = False
    """Whether the decay rises to its value, as `1 - (1 + step)^(-2/3)`: for trainings of a few thousand steps."""


class TrainConfig(Section):
    """One training run."""

    epochs: Annotated[int, Field(ge=0)]
    """Passes over the training images."""
    batch_size: Annotated[int, Field(ge=1)] = 128
    """Images per step, on all GPUs together."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Parts in which a batch goes through the net, to save memory; batch norms measure each part."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """`sgd`, or `adamw` (Loshchilov and Hutter, 2019)."""
    lr: Annotated[float, Field(gt=0)] = 0.1
    """Learning rate at the start (after warm-up)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD; AdamW's first beta."""
    nesterov: bool = False
    """Nesterov's form of SGD's momentum."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = _BETA2
    """Second beta of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """L2 penalty with SGD; decoupled with AdamW."""
    decay: Literal["all", "matrices"] = "all"
    """Which parameters decay: `all`, or `matrices` only: no biases, norms, or what the model exempts (timm's rule)."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Norm that the whole gradient is scaled down to where it is longer."""
    schedule: Literal["step", "cosine"] = "cosine"
    """`step`: times `gamma` at each milestone; `cosine`: to `min_lr` over all epochs."""
    milestones: list[Annotated[int, Field(ge=1)]] = Field(default=[])
    """Epochs at which `schedule: step` lowers the learning rate."""
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Factor of `schedule: step`."""
    min_lr: Annotated[float, Field(ge=0)] = 0.0
    """Learning rate at the end of `schedule: cosine`."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs in which the learning rate rises linearly to `lr`."""
    warmup_lr: Annotated[float, Field(ge=0)] = 0.0
    """Learning rate at the start of the warm-up."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Weight of the uniform distribution in the target."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Alpha of mixup (Zhang et al., 2018), which blends pairs of images; 0 for none."""
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Alpha of CutMix (Yun et al., 2019), which pastes a box of another image; 0 for none. With both, each batch draws
    one of the two."""
    mix_probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of the batches that are mixed."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout rate of nets that have dropout; without it, as the library builds them."""
    stochastic_depth: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Rate at which the last block of nets that have stochastic depth is skipped; without it, as the library builds
    them."""
    ema: EmaConfig | None = None
    """Average of the weights; if given, it is what is validated, selected and left, in the place of the weights."""
    select: Literal["last", "best"] = "last"
    """Which epoch's weights count: the last, or the best on `val`."""

    @property
    def ingredients(self) -> list[str]:
        """Names of the modules in ``oba/training/ingredients`` that this recipe needs."""
        mixes = self.mixup or self.cutmix
        wanted = {"average": self.ema is not None, "decay": self.decay == "matrices", "mixing": mixes}
        return [name for name, needed in wanted.items() if needed]

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

    @model_validator(mode="after")
    def _rates_fit(self) -> Self:
        if self.min_lr and self.schedule != "cosine":
            raise ValueError("min_lr is given, but schedule is 'step'; allowed with schedule: cosine")
        if self.min_lr >= self.lr:
            raise ValueError(f"min_lr {self.min_lr:g} must be lower than lr {self.lr:g}")
        if self.warmup_lr and not self.warmup_epochs:
            raise ValueError("warmup_lr is given, but warmup_epochs is 0; allowed with warmup_epochs of at least 1")
        if self.warmup_lr >= self.lr:
            raise ValueError(f"warmup_lr {self.warmup_lr:g} must be lower than lr {self.lr:g}")
        return self

    @model_validator(mode="after")
    def _options_apply(self) -> Self:
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError(f"nesterov is given, but optimizer is {self.optimizer!r}; allowed with optimizer: sgd")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov is given, but momentum is 0; allowed: momentum above 0")
        if self.beta2 != _BETA2 and self.optimizer != "adamw":
            raise ValueError("beta2 is given, but optimizer is 'sgd'; allowed with optimizer: adamw")
        if self.mix_probability < 1 and "mixing" not in self.ingredients:
            raise ValueError("mix_probability is given, but neither mixup nor cutmix; allowed with one of them above 0")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate {self.accumulate} must be at most batch_size {self.batch_size}")
        return self


class DistillationConfig(Section):
    """What a pruned net learns from the dense one besides the labels (Hinton et al., 2015)."""

    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Weight of the dense net's outputs in the loss; the labels have the rest."""
    temperature: Annotated[float, Field(gt=0)] = 4.0
    """Temperature that both nets' outputs are softened with."""


class FinetuneConfig(TrainConfig):
    """How pruned nets are trained on."""

    distillation: DistillationConfig | None = None
    """Learn from the dense net, too; without it, from the labels alone."""


class DenseConfig(TrainConfig):
    """Where the dense net comes from, and how it is trained."""

    source: Name = Field(default="train", alias="from")
    """`train` (from random weights), `pretrained` (weights that timm or torchvision publish) or a weight file's path.
    With the latter two, `epochs` may be 0: take the net as it is."""
    weights: Name | None = None
    """Of pretrained weights, the tag (`a1_in1k`, `IMAGENET1K_V2`); the name's, or the library's default, if not given.
    Of a checkpoint that holds several state dicts, the entry (`model_ema`)."""
    replace_head: bool = False
    """Whether the classifier of weights from elsewhere gives way to a new, random one: needed for another number of
    classes, and for as many classes that are others."""

    @model_validator(mode="after")
    def _trains(self) -> Self:
        if self.source == "train" and self.epochs == 0:
            raise ValueError("epochs is 0, but dense.from is 'train'; allowed: at least 1 epoch")
        if self.source == "train" and self.weights is not None:
            raise ValueError(
                f"weights is {self.weights!r}, but dense.from is 'train'; allowed with 'pretrained' or a weight file"
            )
        if self.replace_head and (self.source == "train" or self.epochs == 0):
            raise ValueError(
                f"replace_head is true, with from: {self.source} and epochs: {self.epochs}; allowed with weights from "
                "elsewhere and at least 1 epoch, to train the new classifier"
            )
        if {"{", "}"} & set(self.source):
            raise ValueError(
                f"from is {self.source!r}, but Snakemake reads braces as wildcards; allowed: a path without"
            )
        if not self.source.isprintable():
            raise ValueError(
                f"from is {self.source!r}, with characters that cannot be printed; allowed: a path without"
            )
        return self


class ScratchConfig(TrainConfig):
    """The recipe of the control `scratch`."""

    epochs: Annotated[int, Field(ge=1)]
    """Passes over the training images."""

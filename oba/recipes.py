"""The sections of a study file that say which images there are, and how a net is trained on them."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from oba.section import Fraction, Name, Section

_BETA2 = 0.999
_ARRAY_EDGE = 64
_RAND_AUGMENT = r"rand(-(m|n|mmax)\d+|-mstd\d+(\.\d+)?|-p(0(\.\d+)?|1)|-inc[01]|-t(weights|3a|3aw))*"
_AUTO_AUGMENT = r"(original|originalr|v0|v0r|3a)(-mstd\d+(\.\d+)?)?"
_POLICY = rf"^(none|trivial|{_RAND_AUGMENT}|{_AUTO_AUGMENT})$"


class DataConfig(Section):
    """Which images."""

    name: Name
    """Data set: `digits`, `imagefolder`, `cifar10` or `cifar100`."""
    root: str | None = None
    """Folder of the images (`imagefolder`), or where torchvision keeps or downloads CIFAR. `digits` needs none."""
    labels: str | None = None
    """Of `imagefolder` with images directly in `val/`: the file of lines `<image> <class>`, from `root` on or absolute;
    `val_labels.txt` or `LOC_val_solution.csv` in `root` if not given."""
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = None
    """Edge in pixels that images are resized and centre-cropped to; without it they must all have one size."""
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """What the centre crop leaves of the shorter edge, wherever images are not augmented: 0.875 resizes to 256 pixels
    and crops 224. Below 1 only with an `image_size` above 64, where images stay files."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """How images are resized where they are not augmented (antialiased)."""
    normalization: Literal["dataset", "imagenet", "given"] = "dataset"
    """Channel means and standard deviations: of the data set's training images, ImageNet's, or `mean` and `std`, as
    the weights of a pretrained net may need."""
    mean: list[Annotated[float, Field(ge=0, le=1)]] | None = None
    """Mean of each channel, of pixels in [0, 1]; with `normalization: given`."""
    std: list[Annotated[float, Field(gt=0)]] | None = None
    """Standard deviation of each channel, of pixels in [0, 1]; with `normalization: given`."""
    duplicates: Literal["warn", "error"] = "warn"
    """On identical images in two of `train`, `val` and `test`: `warn` counts them for the report, `error` stops."""

    @model_validator(mode="after")
    def _statistics_are_given_together(self) -> Self:
        given = self.mean is not None, self.std is not None
        if given != (self.normalization == "given",) * 2:
            raise ValueError(
                f"normalization is {self.normalization!r}, with{'' if given[0] else 'out'} mean and "
                f"with{'' if given[1] else 'out'} std; allowed: normalization: given with both, or neither of them"
            )
        if self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} channels and std {len(self.std)}; allowed: as many")
        return self

    @model_validator(mode="after")
    def _crops_files(self) -> Self:
        if self.crop_fraction < 1 and (self.image_size or 0) <= _ARRAY_EDGE:
            raise ValueError(
                f"crop_fraction is {self.crop_fraction}, but image_size is {self.image_size or 'not given'}; allowed: "
                f"1.0, or an image_size above {_ARRAY_EDGE}"
            )
        return self


class SplitsConfig(Section):
    """How images are divided; drawn with the sweep's seed and recorded."""

    val: Fraction = 0.1
    """Fraction of the training images that are held out to choose and to watch; the rest trains."""
    test: Fraction = 0.2
    """Fraction of all images that becomes the test set where the data set has no test set of its own."""


class CalibrationConfig(Section):
    """The images that scores and updates are computed on: a part of the training images, without augmentation."""

    images: Annotated[int, Field(ge=2)] = 512
    """Number of images, drawn with the sweep's seed; they train as well."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Images per batch; the batches are the same for every method. Batch norms measure nothing on single images."""


class AugmentConfig(Section):
    """Random changes of training images."""

    crop: Literal["none", "pad", "resized"] = "none"
    """`pad`: zero-pad and crop back (small images); `resized`: random area and aspect, resized (large images)."""
    padding: Annotated[int, Field(ge=1, le=64)] = 4
    """Pixels added on every side by `crop: pad`."""
    flip: bool = False
    """Mirror half of the images left to right; wrong for digits and letters."""
    crop_scale: Annotated[float, Field(gt=0, le=1)] = 0.08
    """Least area that `crop: resized` cuts out, as a fraction of the image's."""
    interpolation: Literal["bilinear", "bicubic", "random"] = "bilinear"
    """How `crop: resized` resizes; `random`: either one, image by image."""
    color_jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Brightness, contrast and saturation are each multiplied by up to 1 ± this (torchvision's ColorJitter)."""
    policy: Annotated[str, Field(json_schema_extra={"pattern": _POLICY})] = "none"
    """`trivial` (torchvision's TrivialAugmentWide), or one of timm's: RandAugment such as `rand-m9-mstd0.5-inc1`, or
    AutoAugment: `original`, `originalr`, `v0`, `v0r`, `3a`, with `-mstd0.5` or without."""
    erase: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that a rectangle of an image is erased after normalisation (timm's RandomErasing)."""
    erase_mode: Literal["pixel", "const"] = "pixel"
    """What the rectangle is filled with: normal noise, or the mean of all images."""

    @property
    def augmentations(self) -> list[str]:
        """Names of the modules in ``oba/data/augmentations`` that this needs."""
        wanted = {"policy": self.policy != "none" or self.color_jitter > 0, "erasing": self.erase > 0}
        return [name for name, needed in wanted.items() if needed]

    @field_validator("policy")
    @classmethod
    def _policy_exists(cls, value: str) -> str:
        if not re.fullmatch(_POLICY, value):
            raise ValueError(
                f"got {value!r}; allowed: none, trivial, timm's RandAugment (rand, with any of -m9, -n2, -p0.5, "
                "-mstd0.5, -mmax10, -inc1, -tweights) or AutoAugment (original, originalr, v0, v0r, 3a, each with or "
                "without -mstd0.5)"
            )
        return value


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
        return self


class ScratchConfig(TrainConfig):
    """The recipe of the control `scratch`."""

    epochs: Annotated[int, Field(ge=1)]
    """Passes over the training images."""

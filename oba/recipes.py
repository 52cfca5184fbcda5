"""The sections of a study file that say which images there are, and how a net is trained on them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from oba.section import Fraction, Name, Section


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


class TrainConfig(Section):
    """One run of SGD."""

    epochs: Annotated[int, Field(ge=0)]
    """Passes over the training images."""
    batch_size: Annotated[int, Field(ge=1)] = 128
    """Images per step."""
    lr: Annotated[float, Field(gt=0)] = 0.1
    """Learning rate at the start (after warm-up)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD momentum."""
    nesterov: bool = False
    """Nesterov's form of momentum."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """L2 penalty on all parameters."""
    schedule: Literal["step", "cosine"] = "cosine"
    """`step`: times `gamma` at each milestone; `cosine`: to zero over all epochs."""
    milestones: list[Annotated[int, Field(ge=1)]] = Field(default=[])
    """Epochs at which `schedule: step` lowers the learning rate."""
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Factor of `schedule: step`."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs in which the learning rate rises linearly to `lr`."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
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


class ScratchConfig(TrainConfig):
    """The recipe of the control `scratch`."""

    epochs: Annotated[int, Field(ge=1)]
    """Passes over the training images."""

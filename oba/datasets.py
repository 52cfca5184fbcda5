"""The sections of a study file that say which images there are, how they are divided, and how they are changed."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from oba.section import Fraction, Name, Section

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
    """Fraction of the training images that are held out to choose and to watch, where the data set has no validation
    images of its own; the rest trains."""
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
        if not re.fullmatch(_POLICY, value, re.ASCII):
            raise ValueError(
                f"got {value!r}; allowed: none, trivial, timm's RandAugment (rand, with any of -m9, -n2, -p0.5, "
                "-mstd0.5, -mmax10, -inc1, -tweights) or AutoAugment (original, originalr, v0, v0r, 3a, each with or "
                "without -mstd0.5)"
            )
        return value

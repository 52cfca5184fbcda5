"""``metadata.json``: what an exported net is, takes, is worth and comes from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from oba.export.source import Git
from oba.records import Accuracy, Cost, Count, Finite, Fraction, Record, Weights


class Input(Record):
    """The images that a net takes: float32, shape (N, channels, height, width), N of any size.

    ``normalization`` says who subtracts ``mean`` and divides by ``std``: the exported net (``inside``, it takes images
    in [0, 1]), the caller (``outside``), or whoever knows them (``unknown``).
    """

    size: Annotated[list[int], Field(min_length=3, max_length=3)]
    normalization: Literal["inside", "outside", "unknown"]
    mean: list[float]
    std: list[float]


class Pruning(Record):
    """How a net was pruned: the settings of the method, with all defaults, and the level."""

    method: dict[str, Any]
    schedule: str
    keep: Fraction
    rounds: Count
    calibration_images: Count


class Speed(Record):
    """Latency of one batch in the format's own runtime, beside the dense architecture exported in the same way."""

    runtime: str
    batch: Count
    runs: Count
    threads: Count
    median_ms: Finite
    dense_median_ms: Finite
    speedup: Finite
    speedup_low: Finite
    speedup_high: Finite


class Check(Record):
    """By how much outputs differ from the net's, divided by the largest, by the batch's size; and what is allowed."""

    tolerance: Finite
    differences: dict[str, Finite]


class Origin(Record):
    """The stage that made the net, where it came from the pipeline."""

    stage: str
    at: dict[str, str]
    epochs: Count | None
    git: Git
    oba: str
    torch: str
    python: str
    time: str


class Exported(Record):
    """With what a net was exported."""

    git: Git
    versions: dict[str, str]
    time: str


class Images(Record):
    """The data set, with the digest of its images, labels and classes."""

    name: str
    digest: str


class Metadata(Record):
    """All that is known of an exported net; ``macs_kept`` and ``parameters_kept`` are fractions of dense."""

    title: str
    format: str
    file: str
    file_bytes: Count
    opset: int | None = None
    architecture: str
    known_by_name: bool
    num_classes: Annotated[int, Field(ge=1)]
    classes: list[str]
    input: Input
    cost: Cost
    dense_cost: Cost
    macs_kept: Finite
    parameters_kept: Finite
    weights: Weights | None
    pruning: Pruning | None
    test: Accuracy | None
    val: Accuracy | None
    check: Check
    latency: Speed | None
    data: Images | None
    origin: Origin | None
    exported: Exported

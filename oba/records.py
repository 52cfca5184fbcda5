"""What stages write for each other and for the report: the records in their JSON files.

Accuracies and ``keep`` are fractions, losses are in nats, times are in seconds unless a name says milliseconds.
:func:`oba.files.read_record` and :func:`oba.files.write_record` move them from and to files.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """A checked part of a file: no unknown keys, no silent conversions, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Accuracy(Record):
    """How well a net classifies the images of one split; ``top5`` is None with fewer than ten classes."""

    loss: Finite
    top1: Fraction
    top5: Fraction | None
    images: Annotated[int, Field(ge=1)]


class Cost(Record):
    """What a net costs: MACs per image, parameters, and bytes of parameters and buffers."""

    macs: Count
    parameters: Count
    bytes: Count


class Timing(Record):
    """Latency of a net beside its dense architecture's; the speedup is the median of paired ratios, with quartiles."""

    batch: Count
    runs: Count
    median_ms: Finite
    dense_median_ms: Finite
    speedup: Finite
    speedup_low: Finite
    speedup_high: Finite
    deterministic: bool
    cudnn_benchmark: bool


class Weights(Record):
    """Weights that may go: by name how many are kept and how many the dense net has, and the fraction kept of all."""

    kept: dict[str, Count]
    dense: dict[str, Count]
    fraction: Finite


class Evaluation(Record):
    """``evaluation.json``: a net on the test images; ``macs_kept`` and ``parameters_kept`` are fractions of dense.

    Weights that are masked cost as much as others: MACs, parameters and latency are those of dense kernels. What is
    kept of them says ``weights``, of nets of which single weights went.

    Attributes:
        class_images: Images of each class, in the order of the net's outputs; empty in files of earlier versions.
        class_correct: How many of them were recognised.
        confusions: The most frequent errors first: class, what it was taken for, number of images.
    """

    test: Accuracy
    class_images: list[Count] = []
    class_correct: list[Count] = []
    confusions: list[Annotated[list[Count], Field(min_length=3, max_length=3)]] = []
    cost: Cost
    macs_kept: Finite
    parameters_kept: Finite
    weights: Weights | None = None
    latency: Timing
    device: str
    threads: Annotated[int, Field(ge=1)]


class Trained(Record):
    """``metrics.json`` of a trained net; ``total_epochs`` counts those before this training as well."""

    val: Accuracy
    epochs: Count
    total_epochs: Count
    selected_epoch: Count
    seconds: Finite


class Round(Record):
    """One round of scoring, cutting and adjusting; losses are means over the calibration images.

    Attributes:
        keep: The round's target, as a fraction of the dense MACs, or of the weights.
        macs_kept: What was reached.
        weights_kept: The same of the weights, where single weights went.
        removed: Number of structures or weights that went in this round.
        kept: Number of structures left, by group, or of weights, by layer.
        scoring_seconds: Wall-clock time of scoring.
        predicted: By how much the loss changes according to the scores; None if they do not predict it.
        loss_before: Before the round; None if it is not finite.
        loss_after: After the cut and the update; None if it is not finite.
    """

    keep: Finite
    macs_kept: Finite
    weights_kept: Finite | None = None
    removed: Count
    kept: dict[str, Count]
    scoring_seconds: Finite
    predicted: Finite | None
    loss_before: Finite | None
    loss_after: Finite | None


class Effort(Record):
    """What scoring took, as means over rounds."""

    scoring_seconds_per_batch: Finite
    scoring_gradients_per_batch: Finite
    peak_memory_bytes: Finite


class Parts(Record):
    """The names of a method's parts."""

    criterion: str
    allocation: str
    update: str


class Pruned(Record):
    """``metrics.json`` of a pruned net; a net of which nothing was removed has no method, rounds or scoring."""

    keep: Fraction
    val_before: Accuracy
    val: Accuracy
    macs: Count
    macs_kept: Finite
    weights: Weights | None = None
    total_epochs: Count
    calibration_images: Count
    method: Parts | None = None
    scoring: Effort | None = None
    rounds: list[Round] = []
    warnings: list[str] = []


class Duplicates(Record):
    """Identical images in two parts of the data: how many by pair (``"test in train"``), and some by name."""

    counts: dict[str, Count]
    examples: list[str]


class JobRecord(Record):
    """``run.json``: the record of a job, as far as others read it; keys that are not listed are left aside."""

    model_config = ConfigDict(extra="ignore")

    settings: dict[str, Any]
    inputs: dict[str, str]
    code: str = ""
    seconds: float = 0.0
    key: str = ""
    outputs: dict[str, str] = {}
    duplicates: Duplicates | None = None

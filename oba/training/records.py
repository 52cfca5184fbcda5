"""Per-epoch metrics of a training, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of training; accuracies are fractions."""

    epoch: int
    """1 for the first."""
    lr: float
    """Learning rate of the last step."""
    train_loss: float
    """Mean over the augmented images, with label smoothing."""
    train_top1: float
    val_loss: float
    """Cross-entropy, without label smoothing."""
    val_top1: float
    images_per_second: float
    """Training images only, without the time of validation."""
    seconds: float
    """Training and validation."""


@dataclass(frozen=True)
class TrainOutcome:
    """A finished training."""

    history: list[EpochRecord]
    """All epochs, those before an interruption included."""
    selected_epoch: int
    """The epoch whose weights the net ends with; 0 if there was none."""

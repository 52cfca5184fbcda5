"""Training: the loop and its resumable state, evaluation, latency."""

from __future__ import annotations

from oba.training.evaluation import Metrics, evaluate, recalibrate_norm
from oba.training.latency import Latency, compare_latency
from oba.training.loop import train
from oba.training.records import EpochRecord, TrainOutcome

__all__ = [
    "EpochRecord",
    "Latency",
    "Metrics",
    "TrainOutcome",
    "compare_latency",
    "evaluate",
    "recalibrate_norm",
    "train",
]

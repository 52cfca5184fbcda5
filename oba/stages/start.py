"""Where the work of a stage begins: its device, with threads and kernels set, and its images."""

from __future__ import annotations

import torch

from oba.data.bundle import DataBundle, load_bundle
from oba.data.split_files import read_splits
from oba.datasets import AugmentConfig
from oba.errors import FileError
from oba.stages.job import Job
from oba.training.device import allow_tf32, keep_freed_memory, make_deterministic, pick_device, set_threads


def device_of(job: Job) -> torch.device:
    """Set the job's threads and kernels and return its device."""
    set_threads(job.sections.threads)
    keep_freed_memory()
    runtime = job.sections.runtime
    device = pick_device(runtime.device)
    make_deterministic(device, runtime.deterministic)
    allow_tf32(getattr(runtime, "tf32", False))
    return device


def load_data(job: Job, augment: AugmentConfig, device: torch.device, calibration: int = 0) -> DataBundle:
    """Return the images of the job's seed, on its device, so many of them for calibration."""
    path = job.layout.split(job.at)
    splits = read_splits(path)
    if splits.seed != job.seed:
        raise FileError(f"{path}: drawn with seed {splits.seed}; split again")
    return load_bundle(job.layout.data, splits, augment, device, calibration=calibration)

"""``split``: divide the images by the seed and measure the channel statistics of the training part."""

from __future__ import annotations

from typing import Any

from oba.files import write_json
from oba.sections import SplitSections
from oba.stages.job import Job


def perform(job: Job[SplitSections]) -> dict[str, Any]:
    """Draw the splits; return their sizes."""
    from oba.data.splits import make_splits

    splits = make_splits(job.layout.data, job.sections.data, job.sections.splits, job.seed)
    write_json(job.layout.split(job.seed), splits.to_json())
    sizes = {name: len(getattr(splits, name)) for name in ("train", "val", "test", "calibration")}
    job.run.metrics(sizes)
    return sizes

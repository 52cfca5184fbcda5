"""``split``: divide the images by the seed and measure the channel statistics of the training part."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from oba.data.duplicates import find_duplicates
from oba.data.split_files import write_splits
from oba.data.splits import make_splits
from oba.data.store import open_prepared
from oba.data.types import PARTS
from oba.sections import SplitSections
from oba.stages.job import Job


def perform(job: Job[SplitSections]) -> dict[str, Any]:
    """Draw the splits; return their sizes, and which images lie in two of them."""
    config = job.sections.data
    splits = make_splits(job.layout.data, config, job.sections.splits, job.seed)
    parts = {name: getattr(splits, name) for name in PARTS}
    duplicates = find_duplicates(open_prepared(job.layout.data, whole=True), parts, config.duplicates)
    write_splits(job.layout.split(job.at), splits)
    sizes = {name: len(indices) for name, indices in parts.items()}
    job.run.params(sizes)
    return sizes | {"duplicates": asdict(duplicates)}

"""``split``: divide the images by the seed and measure the channel statistics of the training part."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from oba.config import Study
from oba.data.types import INFO
from oba.files import write_json
from oba.layout import Cell, Layout
from oba.sections import SplitSections
from oba.stages.job import Job, execute


def run(study: Study, cell: Cell) -> None:
    """Run the stage for one seed."""
    layout = Layout(study.experiment)
    split = layout.split(cell.seed)
    record = split.with_name(f"{split.stem}-run.json")
    execute("split", study, cell, perform, record=record, inputs=[layout.data / INFO], outputs=[split])


def perform(job: Job[SplitSections]) -> dict[str, Any]:
    """Draw the splits; return their sizes, and which images lie in two of them."""
    from oba.data.duplicates import find_duplicates
    from oba.data.splits import make_splits
    from oba.data.store import open_prepared

    config = job.sections.data
    splits = make_splits(job.layout.data, config, job.sections.splits, job.seed)
    parts = {name: getattr(splits, name) for name in ("train", "val", "test")}
    duplicates = find_duplicates(open_prepared(job.layout.data), parts, config.duplicates)
    write_json(job.layout.split(job.seed), splits.to_json())
    sizes = {name: len(indices) for name, indices in parts.items()}
    job.run.metrics(sizes)
    return sizes | {"duplicates": asdict(duplicates)}

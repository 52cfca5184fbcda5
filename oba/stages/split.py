"""``split``: divide the images by the seed and measure the channel statistics of the training part."""

from __future__ import annotations

from typing import Any

from oba.config import Study
from oba.files import write_json
from oba.layout import Cell, Layout
from oba.sections import SplitSections
from oba.stages.job import Job, execute


def run(study: Study, cell: Cell) -> None:
    """Run the stage for one seed."""
    layout = Layout(study.experiment)
    split = layout.split(cell.seed)
    record = split.with_name(f"{split.stem}-run.json")
    execute("split", study, cell, perform, record=record, inputs=[layout.data / "data.json"], outputs=[split])


def perform(job: Job[SplitSections]) -> dict[str, Any]:
    """Draw the splits; return their sizes."""
    from oba.data.splits import make_splits

    splits = make_splits(job.layout.data, job.sections.data, job.sections.splits, job.seed)
    write_json(job.layout.split(job.seed), splits.to_json())
    sizes = {name: len(getattr(splits, name)) for name in ("train", "val", "test", "calibration")}
    job.run.metrics(sizes)
    return sizes

"""``prepare``: read a data set once and leave it as arrays (or a list of files) with a digest."""

from __future__ import annotations

from typing import Any

from oba.sections import PrepareSections
from oba.stages.job import Job


def perform(job: Job[PrepareSections]) -> dict[str, Any]:
    """Prepare the images; return their number and digest."""
    from oba.data.prepare import prepare

    info = prepare(job.sections.data, job.directory)
    facts = {"images": info.train_images + info.test_images, "classes": len(info.classes), "digest": info.digest}
    job.run.metrics({"images": facts["images"], "classes": facts["classes"]})
    return facts

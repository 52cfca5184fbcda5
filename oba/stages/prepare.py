"""``prepare``: read a data set once and leave it as arrays or a list of files, with a digest."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from oba.data.duplicates import find_duplicates
from oba.data.prepare import prepare
from oba.data.regular import return_freed_memory
from oba.data.store import open_prepared
from oba.data.types import PARTS
from oba.sections import PrepareSections
from oba.stages.job import Job


def perform(job: Job[PrepareSections]) -> dict[str, Any]:
    """Prepare the images; return their number, their digest, and which images lie in two of its own parts."""
    config = job.sections.data
    return_freed_memory()
    info = prepare(config, job.directory, cache=job.layout.image_states, seen=job.seen)
    parts = {part: own for part in PARTS if (own := info.own(part))}
    duplicates = find_duplicates(open_prepared(job.directory, whole=True), parts, config.duplicates)
    job.run.params({"images": info.images, "classes": len(info.classes)})
    facts = {"images": info.images, "classes": len(info.classes), "digest": info.digest}
    return facts | {"duplicates": asdict(duplicates)}

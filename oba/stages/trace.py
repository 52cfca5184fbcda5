"""``trace``: find what may be removed from an architecture.

It needs no weights, so it runs beside the dense training.
"""

from __future__ import annotations

from typing import Any

from oba.data.types import DataInfo
from oba.files import read_json, write_json
from oba.models import build_model
from oba.pruning.dependencies import find_groups
from oba.sections import TraceSections
from oba.stages.job import Job
from oba.structures import groups_to_json


def perform(job: Job[TraceSections]) -> dict[str, Any]:
    """Write the groups; return how many structures there are."""
    info = DataInfo.from_json(read_json(job.layout.data / "data.json"))
    model = build_model(job.model_name, num_classes=len(info.classes), input_size=info.input_size)
    wanted = job.sections.structures
    groups = find_groups(model, info.input_size, **wanted.model_dump())
    write_json(job.layout.structures(job.at), groups_to_json(groups))
    facts = {"groups": len(groups), "structures": sum(map(len, groups))}
    job.run.params(facts)
    return facts

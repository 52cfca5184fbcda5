"""``check``: refuse levels of ``keep`` that the floors do not allow, before hours go into training."""

from __future__ import annotations

from typing import Any

from oba.files import read_json
from oba.sections import CheckSections
from oba.stages.job import Job
from oba.structures import groups_from_json


def perform(job: Job[CheckSections]) -> dict[str, Any]:
    """Return the lowest level that each method can reach."""
    from oba.data.types import DataInfo
    from oba.models import build_model
    from oba.pruning.cost import CostModel
    from oba.pruning.problem import lowest_keep, require_reachable

    info = DataInfo.from_json(read_json(job.layout.data / "data.json"))
    model = build_model(job.model, num_classes=len(info.classes), input_size=info.input_size)
    groups = groups_from_json(read_json(job.layout.structures(job.at.model)))
    cost, keep = CostModel.of(model, info.input_size), min(job.sections.keep)
    counts = {group.name: len(group) for group in groups}
    lowest = {}
    for method, floors in job.sections.floors.items():
        require_reachable(groups, cost, keep=keep, floors=floors, dense_counts=counts, dense_macs=cost.macs)
        lowest[method] = round(lowest_keep(groups, cost, floors), 4)
    job.run.metrics({"lowest_keep": max(lowest.values())})
    return {"lowest_keep": lowest}

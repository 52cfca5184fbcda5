"""``check``: refuse levels of ``keep`` that the floors do not allow, before hours go into training."""

from __future__ import annotations

from typing import Any

from oba.config import Study
from oba.files import read_json
from oba.layout import Cell, Layout
from oba.sections import CheckSections
from oba.stages.job import Job, execute
from oba.structures import groups_from_json


def run(study: Study, cell: Cell) -> None:
    """Run the stage for one model."""
    layout = Layout(study.experiment)
    structures = layout.structures(cell.model)
    record = structures.with_name("check.json")
    execute("check", study, cell, perform, record=record, inputs=[layout.data / "data.json", structures])


def perform(job: Job[CheckSections]) -> dict[str, Any]:
    """Return the lowest level that can be reached."""
    from oba.data.types import DataInfo
    from oba.models import build_model
    from oba.pruning.cost import CostModel
    from oba.pruning.select import lowest_keep, require_reachable

    info = DataInfo.from_json(read_json(job.layout.data / "data.json"))
    model = build_model(job.model, num_classes=len(info.classes), input_size=info.input_size)
    groups = groups_from_json(read_json(job.layout.structures(job.cell.model)))
    cost, floors = CostModel.of(model, info.input_size), job.sections.pruning
    counts = {group.name: len(group) for group in groups}
    require_reachable(
        groups, cost, keep=min(job.sections.keep), floors=floors, dense_counts=counts, dense_macs=cost.macs
    )
    lowest = lowest_keep(groups, cost, floors)
    job.run.metrics({"lowest_keep": lowest})
    return {"lowest_keep": round(lowest, 4)}

"""``prune``: score a net on the calibration images and remove structures down to one level of ``keep``."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from oba.config import AugmentConfig, Study
from oba.files import read_json, write_json
from oba.layout import DENSE_LONGER, NET_FILES, Cell, Layout, start_of
from oba.sections import PruneSections
from oba.stages.job import Job, execute
from oba.structures import groups_from_json


def run(study: Study, cell: Cell) -> None:
    """Run the stage for one level of a chain."""
    layout = Layout(study.experiment)
    level = layout.level(cell.model, cell.seed, cell.criterion, cell.schedule, cell.keep)
    *outputs, record = (level / "pruned" / name for name in NET_FILES)
    start = start_of(study, layout, cell)
    inputs = [layout.data / "data.json", layout.split(cell.seed), layout.structures(cell.model)]
    inputs += [start / name for name in NET_FILES[:3]]
    execute("prune", study, cell, partial(perform, start=start), record=record, inputs=inputs, outputs=outputs)


def perform(job: Job[PruneSections], start: Path) -> dict[str, Any]:
    """Prune, measure and leave the net; return its measures."""
    from oba.models.stored import save_pruned
    from oba.pruning.levels import channel_warnings, prune_to_level
    from oba.pruning.replay import load_pruned, read_plan
    from oba.stages.nets import device_of, load_data, measures
    from oba.stages.scoring import Scorer
    from oba.training.evaluation import recalibrate_norm

    pruning, device = job.sections.pruning, device_of(job)
    bundle = load_data(job, AugmentConfig(), device)
    model = load_pruned(start).to(device)
    card, plan = read_plan(start)
    origin = read_json(start / "metrics.json")
    facts: dict[str, Any] = {"keep": float(job.cell.keep), "val_before": origin["val"], "rounds": [], "warnings": []}
    if job.cell.criterion != DENSE_LONGER:
        scorer = Scorer(job, bundle)
        groups = groups_from_json(read_json(job.layout.structures(job.cell.model)))
        plan, rounds = prune_to_level(
            model,
            groups,
            plan,
            score=scorer,
            keep=float(job.cell.keep),
            pruning=pruning,
            normalizer=job.sections.scoring.normalizer,
            input_size=card.input_size,
        )
        facts |= {"rounds": [asdict(r) for r in rounds], "warnings": channel_warnings(groups, plan)}
        facts["scoring"] = scorer.effort()
        scorer.write(job.directory / "scores.safetensors")
    if pruning.recalibrate_norm:
        recalibrate_norm(model, bundle.calibration, batch_size=job.sections.scoring.batch_size)
    facts |= {"calibration_images": len(bundle.calibration), "norm_recalibrated": pruning.recalibrate_norm}
    facts |= measures(model, card, bundle.val, device) | {"total_epochs": origin["total_epochs"]}
    save_pruned(job.directory, model, plan, card)
    write_json(job.directory / "metrics.json", facts)
    measured = {"val_top1": facts["val"]["top1"], "macs_kept": facts["macs_kept"], **facts["cost"]}
    job.run.metrics(measured | facts.get("scoring", {}))
    for name in ("plan.json", "metrics.json"):
        job.run.artifact(job.directory / name)
    return {"threads": job.sections.threads, "device": str(device)}

"""``prune``: bring a net down to one level of ``keep``, by the method's criterion, allocation and update."""

from __future__ import annotations

from typing import Any

from torch import nn

from oba.datasets import AugmentConfig
from oba.files import read_json, read_record, write_record
from oba.models.stored import save_pruned
from oba.models.weight_masks import Masks
from oba.pruning.cost import CostModel
from oba.pruning.levels import Steps, channel_warnings, prune_to_level
from oba.pruning.method import Method
from oba.pruning.plan import Plan, kept_counts
from oba.pruning.replay import load_masked, read_plan
from oba.pruning.weights.levels import WeightSteps, emptied_layers, mask_to_level
from oba.pruning.weights.prunable import count_weights, whole_masks
from oba.records import Accuracy, Effort, Parts, Pruned, Trained
from oba.sections import PruneSections
from oba.stages.job import Job, label_of
from oba.stages.scoring import Scorer
from oba.stages.start import device_of, load_data
from oba.structures import StructureGroup, groups_from_json
from oba.training.evaluation import evaluate


def perform(job: Job[PruneSections]) -> dict[str, Any]:
    """Prune, measure and leave the net; return its measures."""
    start, calibration, device = job.folder("start"), job.sections.calibration, device_of(job)
    bundle = load_data(job, AugmentConfig(), device, calibration.images)
    model, masks = load_masked(start)
    model, masks = model.to(device), {name: mask.to(device) for name, mask in masks.items()}
    card, plan = read_plan(start)
    origin = read_record(start / "metrics.json", Trained)
    facts: dict[str, Any] = {}
    if job.sections.method is not None:
        method = Method.of(job.sections.method)
        scorer = Scorer(job, method, bundle)
        if isinstance(method.steps, Steps):
            plan, facts = _cut(job, model, plan, scorer, method.steps, card.input_size)
        else:
            masks, facts = _mask(job, model, masks, scorer, method.steps)
        parts = {kind: getattr(method.config, kind).name for kind in Parts.model_fields}
        facts |= {"method": Parts(**parts), "scoring": Effort(**scorer.notes.effort())}
        scorer.write(job.directory / "scores.safetensors")
    cost = CostModel.of(model, card.input_size)
    pruned = Pruned(
        keep=float(job.at.keep),
        val_before=origin.val,
        val=Accuracy(**evaluate(model, bundle.val, device=device, label=label_of(job)).figures()),
        macs=cost.macs,
        macs_kept=cost.macs / cost.dense_macs(plan),
        weights=count_weights(masks) if masks else None,
        total_epochs=origin.total_epochs,
        calibration_images=len(bundle.calibration),
        **facts,
    )
    save_pruned(job.directory, model, card, plan, masks)
    write_record(job.directory / "metrics.json", pruned)
    measured = {"val_top1": pruned.val.top1, "macs": pruned.macs, "macs_kept": pruned.macs_kept}
    measured |= {"weights_kept": pruned.weights.fraction} if pruned.weights else {}
    job.run.metrics(measured | (pruned.scoring.model_dump() if pruned.scoring else {}))
    for name in ("plan.json", "metrics.json"):
        job.run.artifact(job.directory / name)
    return {"threads": job.sections.threads, "device": str(device)}


def _cut(
    job: Job[PruneSections], model: nn.Module, plan: Plan, scorer: Scorer, steps: Steps, size: tuple[int, int, int]
) -> tuple[Plan, dict[str, Any]]:
    """Remove structures; return the new plan, and what the record says of it."""
    groups = groups_from_json(read_json(job.layout.structures(job.at)))
    plan, rounds = prune_to_level(
        model,
        groups,
        plan,
        score=scorer.structures,
        steps=steps,
        images=scorer.batches,
        keep=float(job.at.keep),
        input_size=size,
        widths=_widths(job, groups),
        rounds=scorer.saved_rounds(),
    )
    return plan, {"rounds": rounds, "warnings": channel_warnings(groups, plan)}


def _mask(
    job: Job[PruneSections], model: nn.Module, masks: Masks, scorer: Scorer, steps: WeightSteps
) -> tuple[Masks, dict[str, Any]]:
    """Remove single weights; return the new masks, and what the record says of them."""
    assert job.sections.prunable is not None
    masks, rounds = mask_to_level(
        model,
        masks or whole_masks(model, job.sections.prunable.ignore),
        score=scorer.weights,
        steps=steps,
        images=scorer.batches,
        keep=float(job.at.keep),
        rounds=scorer.saved_rounds(),
    )
    return masks, {"rounds": rounds, "warnings": emptied_layers(masks)}


def _widths(job: Job[PruneSections], groups: list[StructureGroup]) -> dict[str, int]:
    """Return what the net keeps whose widths this method copies, if there is one."""
    if "widths" not in job.inputs:
        return {}
    _, plan = read_plan(job.folder("widths"))
    return {name: kept for name, (kept, _) in kept_counts(groups, plan).items()}

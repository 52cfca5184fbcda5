"""``finetune``: train a pruned net on."""

from __future__ import annotations

from typing import Any

from oba.files import read_record
from oba.pruning.replay import load_masked, load_pruned, read_plan
from oba.records import Pruned
from oba.sections import FinetuneSections
from oba.stages.job import Job
from oba.stages.nets import train_and_save
from oba.stages.start import device_of, load_data


def perform(job: Job[FinetuneSections]) -> dict[str, Any]:
    """Train and leave the net; return its measures."""
    pruned, device = job.directory.parent / "pruned", device_of(job)
    bundle = load_data(job, job.sections.augment, device)
    card, plan = read_plan(pruned)
    before = read_record(pruned / "metrics.json", Pruned).total_epochs
    model, masks = load_masked(pruned)
    teacher = load_pruned(job.folder("teacher")) if "teacher" in job.inputs else None
    return train_and_save(
        job,
        model.to(device),
        card,
        bundle,
        job.sections.finetune,
        epochs_before=before,
        plan=plan,
        masks=masks,
        teacher=teacher,
    )

"""``scratch``: the control that trains a pruned architecture from new weights, with its masks if it has some.

It gets the dense recipe over as many epochs as the pruned net had in all, dense training included; milestones
of a step schedule move in proportion. With a recipe of its own (``scratch`` in the study) it gets that.
"""

from __future__ import annotations

from typing import Any

from oba.files import read_record
from oba.models import build_model
from oba.pruning.replay import apply_plan, load_masked, read_plan
from oba.recipes import TrainConfig
from oba.records import Trained
from oba.sections import ScratchSections
from oba.stages.job import Job
from oba.stages.nets import train_and_save
from oba.stages.start import device_of, load_data
from oba.training.device import seeded


def perform(job: Job[ScratchSections]) -> dict[str, Any]:
    """Train and leave the net; return its measures."""
    level, device = job.directory.parent, device_of(job)
    bundle = load_data(job, job.sections.augment, device)
    card, plan = read_plan(level / "pruned")
    with seeded(job.seed):
        model = build_model(card.name, num_classes=card.num_classes, input_size=card.input_size)
    apply_plan(model, plan)
    _, masks = load_masked(level / "pruned")
    epochs = read_record(level / "finetuned" / "metrics.json", Trained).total_epochs
    config = recipe(job.sections, epochs)
    return train_and_save(job, model.to(device), card, bundle, config, epochs_before=0, plan=plan, masks=masks)


def recipe(sections: ScratchSections, epochs: int) -> TrainConfig:
    """Return how to train from new weights, given the pruned net's epochs in all."""
    return sections.scratch or _stretched(sections.dense, epochs)


def _stretched(config: TrainConfig, epochs: int) -> TrainConfig:
    """Return a recipe over another number of epochs."""
    milestones = [max(1, round(m * epochs / max(config.epochs, 1))) for m in config.milestones]
    return config.model_copy(update={"epochs": epochs, "milestones": milestones})

"""``dense``: train the net that all chains of a seed start from, or take it from elsewhere."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from oba.models import build_model, load_weights
from oba.models.build import classifier_of
from oba.models.stored import ModelCard
from oba.recipes import DenseConfig
from oba.sections import DenseSections
from oba.stages.job import Job
from oba.stages.nets import train_and_save
from oba.stages.start import device_of, load_data
from oba.training.device import seeded


def perform(job: Job[DenseSections]) -> dict[str, Any]:
    """Train and leave the net; return its measures."""
    dense, device = job.sections.dense, device_of(job)
    bundle = load_data(job, job.sections.augment, device)
    card = ModelCard(
        name=job.model_name,
        num_classes=len(bundle.info.classes),
        input_size=bundle.info.input_size,
        classes=tuple(bundle.info.classes),
        mean=tuple(bundle.splits.mean),
        std=tuple(bundle.splits.std),
    )
    with seeded(job.seed):
        model, origin = _first_weights(dense, card)
    return train_and_save(job, model.to(device), card, bundle, dense, epochs_before=0) | origin


def _first_weights(dense: DenseConfig, card: ModelCard) -> tuple[nn.Module, dict[str, Any]]:
    """Return the net before training, and what the job's record says of published weights."""
    sizes: dict[str, Any] = {"num_classes": card.num_classes, "input_size": card.input_size}
    if dense.source == "pretrained":
        # By its name, so that the libraries behind it count for jobs of pretrained nets alone: see oba.dag.
        pretrained = import_module("oba.models.pretrained")
        weights = pretrained.find_published(card.name, dense.weights)
        model = pretrained.build_pretrained(weights, **sizes, replace_head=dense.replace_head)
        origin = pretrained.describe_loaded(weights, model, dense.replace_head)
        differ = weights.warnings(card.input_size[0], (card.mean, card.std))
        return model, {"weights": origin | {"warnings": differ}}
    model = build_model(card.name, **sizes)
    if dense.source != "train":
        head = classifier_of(card.name, model)
        load_weights(model, Path(dense.source), entry=dense.weights, head=head, replace_head=dense.replace_head)
    return model, {}

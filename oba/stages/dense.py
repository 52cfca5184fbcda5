"""``dense``: train the net that all chains of a seed start from, or take it from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oba.sections import DenseSections
from oba.stages.job import Job


def perform(job: Job[DenseSections]) -> dict[str, Any]:
    """Train and leave the net; return its measures."""
    from oba.models import build_model, load_weights
    from oba.models.stored import ModelCard
    from oba.stages.nets import train_and_save
    from oba.stages.start import device_of, load_data
    from oba.training.device import seeded

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
        pretrained = dense.source == "pretrained"
        model = build_model(
            job.model_name, num_classes=card.num_classes, input_size=card.input_size, pretrained=pretrained
        )
    if dense.source not in {"train", "pretrained"}:
        load_weights(model, Path(dense.source))
    return train_and_save(job, model.to(device), card, bundle, dense, epochs_before=0)

"""What the stages that hold a net share: its device, its data, training it, measuring it, leaving it."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, fields
from time import perf_counter
from typing import TYPE_CHECKING, Any

from oba.config import AugmentConfig, TrainConfig
from oba.data.bundle import DataBundle, load_bundle
from oba.data.types import Splits
from oba.files import read_json, write_json, write_text
from oba.models import build_model
from oba.models.stored import ModelCard, save_pruned
from oba.pruning.cost import measure
from oba.pruning.plan import Plan
from oba.stages.job import Job, readable
from oba.training.device import derive_seed, keep_freed_memory, make_deterministic, pick_device, set_threads
from oba.training.evaluation import evaluate
from oba.training.loop import train
from oba.training.records import EpochRecord

if TYPE_CHECKING:
    import torch
    from torch import nn


def device_of(job: Job) -> torch.device:
    """Set the job's threads and kernels and return its device."""
    set_threads(job.sections.threads)
    keep_freed_memory()
    device = pick_device(job.sections.runtime.device)
    make_deterministic(device)
    return device


def load_data(job: Job, augment: AugmentConfig, device: torch.device) -> DataBundle:
    """Return the images of the job's seed, on its device."""
    splits = Splits.from_json(read_json(job.layout.split(job.seed)))
    return load_bundle(job.layout.data, splits, augment, device)


def measures(model: nn.Module, card: ModelCard, split: Any, device: torch.device) -> dict[str, Any]:
    """Return a net's accuracy on a split, its cost, and the part of the dense net's MACs that it keeps."""
    dense = build_model(card.name, num_classes=card.num_classes, input_size=card.input_size)
    cost = measure(model, card.input_size)
    metrics = evaluate(model, split, device=device)
    macs_kept = cost.macs / measure(dense, card.input_size).macs
    return {"val": asdict(metrics), "cost": asdict(cost), "macs_kept": macs_kept}


def train_and_save(
    job: Job,
    model: nn.Module,
    plan: Plan,
    card: ModelCard,
    bundle: DataBundle,
    config: TrainConfig,
    *,
    epochs_before: int,
) -> dict[str, Any]:
    """Train a net on, from where a killed job stopped, and leave it with its history and measures.

    Args:
        job: The running job.
        model: The net, on its device.
        plan: What was removed from the dense architecture.
        card: What rebuilds the dense architecture.
        bundle: The images.
        config: The recipe.
        epochs_before: Epochs that the weights have seen already.

    Returns:
        What the job's record adds.
    """
    device = next(model.parameters()).device
    started = perf_counter()

    def on_epoch(epoch: EpochRecord) -> None:
        job.run.metrics({k: v for k, v in asdict(epoch).items() if k != "epoch"}, step=epoch.epoch)

    # One order of images and augmentations for all criteria of a seed makes their differences paired.
    seed = derive_seed(job.seed, job.stage, job.cell.schedule, job.cell.keep)
    outcome = train(
        model,
        bundle,
        config,
        seed=seed,
        state_dir=job.state,
        device=device,
        precision=job.sections.runtime.precision,
        on_epoch=on_epoch,
        label=" ".join([job.stage, *readable(job.cell)]),
    )
    facts = measures(model, card, bundle.val, device)
    facts |= {"epochs": config.epochs, "total_epochs": epochs_before + config.epochs}
    facts |= {"selected_epoch": outcome.selected_epoch, "seconds": sum(e.seconds for e in outcome.history)}
    save_pruned(job.directory, model, plan, card)
    write_text(job.directory / "history.csv", _as_csv(outcome.history))
    write_json(job.directory / "metrics.json", facts)
    job.run.metrics({"final_val_top1": facts["val"]["top1"], "macs_kept": facts["macs_kept"], **facts["cost"]})
    for name in ("plan.json", "metrics.json", "history.csv"):
        job.run.artifact(job.directory / name)
    return {"threads": job.sections.threads, "device": str(device), "wall_seconds": perf_counter() - started}


def _as_csv(history: list[EpochRecord]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(epoch) for epoch in history)
    return text.getvalue()

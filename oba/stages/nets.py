"""What the stages that train share: training a net on, and leaving it with its history and measures."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, fields
from time import perf_counter
from typing import Any

from torch import nn

from oba.data.bundle import DataBundle
from oba.files import write_record, write_text
from oba.models.dropping import set_dropping, wanted_rates
from oba.models.stored import ModelCard, SupportsJson, save_pruned
from oba.models.weight_masks import Masks
from oba.recipes import TrainConfig
from oba.records import Accuracy, Trained
from oba.seeds import derive_seed
from oba.stages.job import Job, label_of
from oba.training.evaluation import evaluate
from oba.training.loop import train
from oba.training.records import EpochRecord


def train_and_save(
    job: Job,
    model: nn.Module,
    card: ModelCard,
    bundle: DataBundle,
    config: TrainConfig,
    *,
    epochs_before: int,
    plan: SupportsJson | None = None,
    masks: Masks | None = None,
    teacher: nn.Module | None = None,
) -> dict[str, Any]:
    """Train a net on, from where a killed job stopped, and leave it with its history and measures.

    Args:
        job: The running job.
        model: The net, on its device.
        card: What rebuilds the dense architecture.
        bundle: The images.
        config: The recipe.
        epochs_before: Epochs that the weights have seen already.
        plan: What is left of the dense architecture; all of it if not given.
        masks: What is kept of its weights; the others stay 0.
        teacher: The net to learn from besides the labels.

    Returns:
        What the job's record adds.
    """
    device = next(model.parameters()).device
    if rates := wanted_rates(config):
        set_dropping(model, card.name, num_classes=card.num_classes, input_size=card.input_size, rates=rates)
    started = perf_counter()

    def on_epoch(epoch: EpochRecord) -> None:
        job.run.metrics({k: v for k, v in asdict(epoch).items() if k != "epoch"}, step=epoch.epoch)

    # One order of images and augmentations for all criteria of a seed makes their differences paired.
    seed = derive_seed(job.seed, job.stage, job.at.schedule, job.at.keep)
    outcome = train(
        model,
        bundle,
        config,
        seed=seed,
        state_dir=job.state,
        device=device,
        runtime=job.sections.runtime,
        on_epoch=on_epoch,
        label=label_of(job),
        masks=masks,
        teacher=teacher,
    )
    trained = Trained(
        val=Accuracy(**evaluate(model, bundle.val, device=device, label=label_of(job)).figures()),
        epochs=config.epochs,
        total_epochs=epochs_before + config.epochs,
        selected_epoch=outcome.selected_epoch,
        seconds=sum(epoch.seconds for epoch in outcome.history),
    )
    save_pruned(job.directory, model, card, plan, masks)
    write_text(job.directory / "history.csv", _as_csv(outcome.history))
    write_record(job.directory / "metrics.json", trained)
    job.run.metrics({"final_val_top1": trained.val.top1})
    for name in ("plan.json", "metrics.json", "history.csv"):
        job.run.artifact(job.directory / name)
    return {"threads": job.sections.threads, "device": str(device), "wall_seconds": perf_counter() - started}


def _as_csv(history: list[EpochRecord]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(epoch) for epoch in history)
    return text.getvalue()

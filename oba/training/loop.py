"""The training loop.

Every epoch is a pure function of the state at its start, the seed and the epoch's number: the order of
the images, their augmentation, mixing and dropout are drawn from seeds derived from the latter two. A killed
training that goes on after its last finished epoch is therefore bitwise reproducible on a CPU, given the
same number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from oba import ranks
from oba.data.bundle import DataBundle
from oba.errors import TrainingError
from oba.files import digest_json
from oba.machine import RuntimeConfig
from oba.models.weight_masks import Masks
from oba.recipes import TrainConfig
from oba.seeds import derive_seed
from oba.training.device import seeded
from oba.training.evaluation import evaluate
from oba.training.learner import Learner
from oba.training.progress import Progress
from oba.training.records import EpochRecord, TrainOutcome
from oba.training.state import TrainState, load_state, save_state

_FETCH_EVERY = 50
"""Steps between transfers of the losses, each of which waits for the device."""


def train(
    model: nn.Module,
    bundle: DataBundle,
    config: TrainConfig,
    *,
    seed: int,
    state_dir: Path,
    device: torch.device,
    runtime: RuntimeConfig,
    on_epoch: Callable[[EpochRecord], None],
    label: str,
    masks: Masks | None = None,
    teacher: nn.Module | None = None,
) -> TrainOutcome:
    """Train a net, going on from the state in ``state_dir`` if there is one.

    The learning rate is set at every step, to the schedule's value at the step's middle. A last batch of
    one image, which batch norm cannot take, is left out. Ranks train together: each learns its part of every batch,
    and the first one keeps the state.

    Args:
        model: The net; moved to ``device``; ends there in eval mode with the selected epoch's weights.
        bundle: ``train`` is learned; ``val`` is watched, and chosen on with ``select: best`` (highest
            accuracy, then lowest loss, then earliest).
        config: The settings.
        seed: Seed of everything random here.
        state_dir: Folder of the resumable state, of this training alone. The caller removes it
            once the results are safe.
        device: Where to train, and where the bundle's batches are.
        runtime: Precision, memory format, and whether passes are compiled.
        on_epoch: Called for every epoch once its state is safe. A training that goes on calls it first for all
            epochs before the interruption, since the last of them may not have been reported.
        label: What is trained, for people: ``dense resnet8 seed 0``.
        masks: What is kept of the net's weights; the others are set to 0, and stay exactly 0: their gradients are
            dropped before every step, so that momentum and weight decay have nothing to work on.
        teacher: The net that ``config.distillation`` learns from; moved to ``device``.

    Returns:
        The history and the selected epoch.

    Raises:
        TrainingError: If fewer than two images are left to train on, a batch has fewer than two for each rank, or a
            loss is not finite.
    """
    learner = Learner(
        model, config, runtime, device=device, classes=len(bundle.info.classes), masks=masks, teacher=teacher
    )
    steps = _steps(len(bundle.train), config.batch_size)
    if config.epochs and steps == 0:
        raise TrainingError(f"{label}: {len(bundle.train)} training images; at least {2 * ranks.count()} are needed")
    if config.batch_size < (fewest := 2 * ranks.count()) and ranks.count() > 1:
        raise TrainingError(
            f"{label}: batch_size {config.batch_size} leaves a rank fewer than two images; allowed with "
            f"{ranks.count()} ranks: at least {fewest}"
        )
    key = _key(model, config, seed, runtime)
    state = load_state(state_dir, key) or TrainState()
    learner.restore(state)
    for record in state.history:
        on_epoch(record)

    with Progress(label, config.epochs, quiet=not ranks.is_main()) as progress:
        run = _Run(learner, config, len(bundle.train), steps, device, seed, progress, label)
        for epoch in range(len(state.history) + 1, config.epochs + 1):
            start = time.perf_counter()
            shuffle_seed = derive_seed(seed, "images", epoch)
            mine = (ranks.rank(), ranks.count())
            batches = bundle.train.batches(config.batch_size, shuffle_seed=shuffle_seed, augment=True, part=mine)
            own = mine[:1] if ranks.count() > 1 else ()  # ranks drop different units
            with seeded(derive_seed(seed, "dropout", epoch, *own)):
                loss, top1, images = _train_epoch(run, batches, epoch)
            learner.end_epoch()
            trained = time.perf_counter()
            val = evaluate(
                learner.counted,
                bundle.val,
                batch_size=config.batch_size,
                device=device,
                precision=runtime.precision,
                label=f"{label}: validation after epoch {epoch}",
                cause=_cause(config),
            )
            end = time.perf_counter()

            speed = images / (trained - start)
            record = EpochRecord(epoch, learner.lr, loss, top1, val.loss, val.top1, speed, end - start)
            state.history.append(record)
            if config.select == "last":
                state.selected_epoch = epoch
            elif max(state.history, key=lambda other: (other.val_top1, -other.val_loss)) is record:
                state.selected_epoch = epoch
                state.best = {name: t.detach().cpu().clone() for name, t in learner.counted.state_dict().items()}
            learner.save(state)
            save_state(state_dir, state, key)
            progress.finish(state.history)
            on_epoch(record)

    model.load_state_dict(state.best or learner.counted.state_dict())
    model.eval()
    return TrainOutcome(state.history, state.selected_epoch)


@dataclass(frozen=True)
class _Run:
    """What is the same in all epochs."""

    learner: Learner
    config: TrainConfig
    images: int
    steps: int
    device: torch.device
    seed: int
    progress: Progress
    label: str


def _train_epoch(run: _Run, batches: Iterable[tuple[Tensor, Tensor]], epoch: int) -> tuple[float, float, int]:
    """Learn all batches once; return the mean loss, the accuracy and the number of images."""
    waiting: list[Tensor] = []  # losses that are still on the device
    losses: list[float] = []
    sizes: list[int] = []
    correct = torch.zeros((), dtype=torch.int64, device=run.device)
    run.learner.model.train()
    run.progress.start(epoch, run.steps)
    for step, (inputs, targets) in zip(range(run.steps), batches, strict=False):
        sizes.append(min(run.config.batch_size, run.images - step * run.config.batch_size))
        loss, right = run.learner.step(
            inputs,
            targets,
            whole=sizes[-1],
            epochs_done=epoch - 1 + (step + 0.5) / run.steps,
            number=(epoch - 1) * run.steps + step + 1,
            seed=derive_seed(run.seed, "mix", epoch, step),
        )
        correct += right
        waiting.append(loss)
        if len(waiting) == _FETCH_EVERY or step == run.steps - 1:
            together = torch.stack(waiting)
            ranks.sum_over_ranks([together])
            losses += together.tolist()
            waiting.clear()
            _check_finite(losses, run, epoch)
        run.progress.step()
    ranks.sum_over_ranks([correct])
    images = sum(sizes)
    mean = sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / images
    return mean, correct.item() / images, images


def _steps(images: int, batch_size: int) -> int:
    """Count the batches of an epoch, without a last one of which a rank would get a single image or none."""
    full, rest = divmod(images, batch_size)
    return full + (rest >= 2 * ranks.count())


def _check_finite(losses: list[float], run: _Run, epoch: int) -> None:
    """Stop at a loss that is infinite or not a number."""
    for step, loss in enumerate(losses, start=1):
        if not math.isfinite(loss):
            raise TrainingError(
                f"{run.label}: the loss is {loss} at epoch {epoch}, step {step} of {run.steps}; {_cause(run.config)}"
            )


def _cause(config: TrainConfig) -> str:
    """Say why a loss is not finite."""
    return (
        f"likely lr {config.lr:g} is too high (lower it, or set warmup_epochs), or the net it started from is damaged"
    )


def _key(model: nn.Module, config: TrainConfig, seed: int, runtime: RuntimeConfig) -> str:
    """Name what the states of a training depend on."""
    sizes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    settings = {"config": config.model_dump(), "runtime": runtime.model_dump()}
    return digest_json({"sizes": sizes, "seed": seed, **settings})

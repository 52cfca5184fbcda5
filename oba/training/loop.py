"""The training loop.

Every step is a pure function of the state at its start, the seed and the numbers of epoch and step: the order of the
images, their augmentation, mixing and dropout are drawn from seeds derived from these. A killed training that goes on
after the last step that was saved is therefore bitwise reproducible on a CPU, given the same number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from oba import ranks
from oba.data.bundle import DataBundle
from oba.errors import StoppedError, TrainingError
from oba.files import digest_json
from oba.machine import RuntimeConfig
from oba.models.weight_masks import Masks
from oba.recipes import TrainConfig
from oba.signals import held, let_through, received
from oba.training.device import seeded
from oba.training.epoch import Epoch, Training, cause_of_infinity
from oba.training.evaluation import Metrics, evaluate
from oba.training.learner import Learner
from oba.training.progress import Progress
from oba.training.records import EpochRecord, TrainOutcome
from oba.training.schedules import learning_rate
from oba.training.state import TrainState, TrainStates
from oba.training.stopping import Watch


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
    and the first one keeps the state. The state is saved after every epoch, within long ones every ten minutes or so,
    and at the end of the step during which a signal of :mod:`oba.signals` comes; :class:`StoppedError` follows.

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
    states = TrainStates(state_dir, _key(model, config, seed, runtime))
    state = states.load() or TrainState()
    learner.restore(state)
    for record in state.history:
        on_epoch(record)

    with Progress(label, config.epochs, quiet=not ranks.is_main()) as progress, seeded(seed), held():
        if state.weights:
            done = len(state.history)
            progress.resume(done + 1, state.part.step, steps) if state.part else progress.resume(done, 0, steps)
        training = Training(learner, bundle, config, steps, seed, label, progress, state, states, Watch())
        for number in range(len(state.history) + 1, config.epochs + 1):
            epoch = Epoch(training, number, device)
            loss, top1, images = epoch.learn()
            learner.end_epoch()
            trained = epoch.seconds
            val = _validate(training, epoch, f"{label}: validation after epoch {number}", device, runtime.precision)

            lr = learning_rate(config, number - 1 + (steps - 0.5) / steps)  # of the last step
            record = EpochRecord(number, lr, loss, top1, val.loss, val.top1, images / trained, epoch.seconds)
            state.history.append(record)
            state.part = None
            if config.select == "last":
                state.selected_epoch = number
            elif max(state.history, key=lambda other: (other.val_top1, -other.val_loss)) is record:
                state.selected_epoch = number
                state.best = {name: t.detach().cpu().clone() for name, t in learner.counted.state_dict().items()}
            safe = training.save()
            progress.finish(state.history)
            on_epoch(record)
            if stop := training.watch.look(now=True).stop:
                raise training.stopped(stop, safe)

    model.load_state_dict(state.best or learner.counted.state_dict())
    model.eval()
    return TrainOutcome(state.history, state.selected_epoch)


def _steps(images: int, batch_size: int) -> int:
    """Count the batches of an epoch, without a last one of which a rank would get a single image or none."""
    full, rest = divmod(images, batch_size)
    return full + (rest >= 2 * ranks.count())


def _validate(training: Training, epoch: Epoch, label: str, device: torch.device, precision: str) -> Metrics:
    """Measure the net after an epoch; a single rank stops at once, with all steps of the epoch saved."""
    config = training.config
    try:
        with let_through(ranks.count() == 1):
            return evaluate(
                training.learner.counted,
                training.bundle.val,
                batch_size=config.batch_size,
                device=device,
                precision=precision,
                label=label,
                cause=cause_of_infinity(config),
            )
    except StoppedError:
        safe = epoch.save()
        raise training.stopped(str(received()), safe) from None


def _key(model: nn.Module, config: TrainConfig, seed: int, runtime: RuntimeConfig) -> str:
    """Name what the states of a training depend on."""
    sizes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    settings = {"config": config.model_dump(), "runtime": runtime.model_dump(), "ranks": ranks.count()}
    return digest_json({"sizes": sizes, "seed": seed, **settings})

"""The steps of one epoch, from wherever it was left."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from oba import ranks
from oba.data.bundle import DataBundle
from oba.errors import DataError, StoppedError, TrainingError
from oba.recipes import TrainConfig
from oba.seeds import derive_seed
from oba.signals import received
from oba.training.device import reseed
from oba.training.learner import Learner
from oba.training.progress import Progress
from oba.training.state import EpochPart, TrainState, TrainStates
from oba.training.stopping import Watch

_FETCH_EVERY = 50
"""Steps between transfers of the losses, each of which waits for the device."""


@dataclass(frozen=True)
class Training:
    """What is the same in all epochs.

    Attributes:
        learner: The net and its optimizer.
        bundle: The images.
        config: The recipe.
        steps: Steps of an epoch.
        seed: Seed of everything random.
        label: What is trained, for people.
        progress: The display.
        state: The training so far.
        states: Where it is saved.
        watch: When it is saved within an epoch, and when it stops.
    """

    learner: Learner
    bundle: DataBundle
    config: TrainConfig
    steps: int
    seed: int
    label: str
    progress: Progress
    state: TrainState
    states: TrainStates
    watch: Watch

    def save(self) -> bool:
        """Save the state as it is; tell whether it is safe."""
        started = time.monotonic()
        self.learner.save(self.state)
        safe = self.states.save(self.state)
        self.watch.saved(started)
        return safe

    def stopped(self, why: str, safe: bool) -> StoppedError:
        """Return the error that ends a training, once all ranks know whether its state is safe."""
        ranks.barrier()
        done, step = len(self.state.history), self.state.part.step if self.state.part else 0
        where = f"epoch {done + 1}, step {step} of {self.steps}" if step else f"the end of epoch {done}"
        saved = f"saved at {where}; the same command goes on from there"
        lost = f"not saved at {where}, as warned; the same command goes on from what was saved before"
        return StoppedError(f"{self.label}: stopped by {why}, {saved if safe else lost}")


class Epoch:
    """One epoch as far as it has been learned."""

    def __init__(self, training: Training, number: int, device: torch.device) -> None:
        """Begin it, or go on where the state left it.

        Args:
            training: The training.
            number: Of the epoch, from 1.
            device: Where it is trained.
        """
        self._training, self._number, self._device = training, number, device
        part = training.state.part or EpochPart()
        self._step, self._losses, self._before = part.step, part.losses, part.seconds
        own = part.own[ranks.rank()] if part.own else {}
        # Losses on the way stay apart: sums over ranks depend on which are summed together.
        self._waiting = list(own["waiting"].to(device)) if own else []
        self._correct = own["correct"].to(device) if own else torch.zeros((), dtype=torch.int64, device=device)
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """What the epoch took so far, without what an interruption lost."""
        return self._before + time.perf_counter() - self._started

    def learn(self) -> tuple[float, float, int]:
        """Learn what is left of the epoch; return the mean loss, the accuracy and the number of images."""
        training = self._training
        training.learner.model.train()
        training.progress.start(self._number, training.steps, self._step)
        for inputs, targets in self._batches():
            self._learn(inputs, targets)
            training.progress.step()
            if self._step < training.steps:
                self._look()
        return self._summary()

    def save(self) -> bool:
        """Save what has been learned so far; tell whether it is safe."""
        training = self._training
        waiting = torch.stack(self._waiting) if self._waiting else torch.zeros(0)
        own = {"waiting": waiting, "correct": self._correct, **training.learner.own_statistics()}
        gathered = ranks.gather({name: tensor.cpu() for name, tensor in own.items()})
        training.state.part = EpochPart(self._step, self.seconds, self._losses, gathered)
        return training.save()

    def _learn(self, inputs: Tensor, targets: Tensor) -> None:
        """Learn one batch."""
        training, step, whole = self._training, self._step, self._size(self._step)
        # Ranks drop different units.
        own = (ranks.rank(),) if ranks.count() > 1 else ()
        reseed(derive_seed(training.seed, "dropout", self._number, step, *own), self._device)
        loss, right = training.learner.step(
            inputs,
            targets,
            whole=whole,
            epochs_done=self._number - 1 + (step + 0.5) / training.steps,
            number=(self._number - 1) * training.steps + step + 1,
            seed=derive_seed(training.seed, "mix", self._number, step),
        )
        self._correct += right
        self._waiting.append(loss)
        self._step += 1
        if len(self._waiting) == _FETCH_EVERY or self._step == training.steps:
            self._fetch()

    def _fetch(self) -> None:
        """Wait for the losses, and stop at one that is infinite or not a number."""
        training, together = self._training, torch.stack(self._waiting)
        ranks.sum_over_ranks([together])
        self._losses += together.tolist()
        self._waiting.clear()
        for step, loss in enumerate(self._losses, start=1):
            if not math.isfinite(loss):
                raise TrainingError(
                    f"{training.label}: the loss is {loss} at epoch {self._number}, step {step} of {training.steps}; "
                    f"{cause_of_infinity(training.config)}"
                )

    def _look(self) -> None:
        """Save, and stop, where it is time."""
        wanted = self._training.watch.look()
        safe = self.save() if wanted.save else True
        if wanted.stop:
            raise self._training.stopped(wanted.stop, safe)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of the steps that are left."""
        config, split = self._training.config, self._training.bundle.train
        seed, mine = derive_seed(self._training.seed, "images", self._number), (ranks.rank(), ranks.count())
        told = False
        while True:
            batches = split.batches(config.batch_size, shuffle_seed=seed, augment=True, part=mine, skip=self._step)
            try:
                for _, batch in zip(range(self._step, self._training.steps), batches, strict=False):
                    yield batch
                return
            except DataError:
                # A signal to all processes of a job also ends those that read images: read on until all ranks stop.
                if received() is None or told:
                    raise
                told = True

    def _size(self, step: int) -> int:
        """Return the number of images of a step's batch, on all ranks together."""
        size = self._training.config.batch_size
        return min(size, len(self._training.bundle.train) - step * size)

    def _summary(self) -> tuple[float, float, int]:
        correct = self._correct.clone()
        ranks.sum_over_ranks([correct])
        sizes = [self._size(step) for step in range(self._training.steps)]
        images = sum(sizes)
        mean = sum(loss * size for loss, size in zip(self._losses, sizes, strict=True)) / images
        return mean, correct.item() / images, images


def cause_of_infinity(config: TrainConfig) -> str:
    """Say why a loss is not finite.

    Args:
        config: The recipe.

    Returns:
        The likely cause, for a message.
    """
    return (
        f"likely lr {config.lr:g} is too high (lower it, or set warmup_epochs), or the net it started from is damaged"
    )

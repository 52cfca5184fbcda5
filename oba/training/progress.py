"""Progress of a training: a bar within the epoch on a terminal, and one line per epoch everywhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from oba.training.records import EpochRecord

_RECENT = 5


class Progress:
    """Shows a training on standard error; to be entered with ``with``."""

    def __init__(self, label: str, epochs: int, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        """Prepare the display.

        Args:
            label: What is trained, such as ``dense resnet8 seed 0``.
            epochs: Epochs in all.
            stream: Where to write; standard error if not given.
            quiet: Whether nothing is shown.
        """
        self._label = label
        self._epochs = epochs
        self._console = Console(file=stream or sys.stderr, quiet=quiet)
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        self._bar = Bar(*columns, console=self._console, transient=True, disable=quiet or not self._console.is_terminal)
        self._task = self._bar.add_task(label)

    def __enter__(self) -> Self:
        """Show the bar.

        Returns:
            This display.
        """
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar, also when the training fails."""
        self._bar.stop()

    def resume(self, epoch: int, step: int, steps: int) -> None:
        """Print where a training goes on: in an epoch of which some steps of all are done, or after one."""
        within = f"at epoch {epoch}, step {step} of {steps}" if step else f"after epoch {epoch} of {self._epochs}"
        self._print(f"{self._label}  resumed {within}")

    def start(self, epoch: int, steps: int, done: int = 0) -> None:
        """Begin an epoch, counted from 1, of some steps, of which some may be done."""
        description = f"{self._label}  epoch {epoch}/{self._epochs}"
        self._bar.reset(self._task, total=steps, completed=done, description=description)

    def step(self) -> None:
        """Count one step."""
        self._bar.advance(self._task)

    def finish(self, history: list[EpochRecord]) -> None:
        """Print the line of the last epoch of a history."""
        recent = [record.seconds for record in history[-_RECENT:]]
        left = (self._epochs - history[-1].epoch) * sum(recent) / len(recent)
        self._print(epoch_line(self._label, history[-1], self._epochs, left))

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)


def epoch_line(label: str, record: EpochRecord, epochs: int, seconds_left: float) -> str:
    """Return the line of one of ``epochs`` epochs, aligned with those of the others."""
    parts = (
        label,
        f"epoch {record.epoch:{len(str(epochs))}d}/{epochs}",
        f"loss {record.train_loss:.3f}",
        f"train {record.train_top1:6.1%}".replace("%", " %"),
        f"val {record.val_top1:6.1%}".replace("%", " %"),
        f"lr {record.lr:<8.3g}",
        f"{record.images_per_second:9,.0f} images/s",
        f"left {duration(seconds_left)}",
    )
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Return a time as ``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

"""When a training saves its state within an epoch, and when it stops: of several ranks, all at the same step."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from oba import ranks
from oba.signals import received

SAVE_EVERY = 600.0
"""Seconds between two states at least; states after epochs are saved whenever they are."""
_SHARE = 0.02
"""Part of a training's time that saving within epochs may take: large states are saved less often."""
_AGREE_EVERY = 1.0
"""Seconds, about, between two questions of the ranks whether one of them is to stop."""


@dataclass(frozen=True)
class Wanted:
    """What is to be done after a step.

    Attributes:
        save: Whether the state is to be saved.
        stop: Why the training is to stop after that, or None.
    """

    save: bool
    stop: str | None


class Watch:
    """Looks after every step whether it is time to save, or to stop."""

    def __init__(self) -> None:
        """Begin to wait."""
        self._since = self._agreed = time.monotonic()
        self._cost = 0.0
        self._every = self._left = 1

    def look(self, *, now: bool = False) -> Wanted:
        """Return what is to be done after this step; all ranks ask after each, and get the same answer.

        One rank is heard at once. Several speak with each other about once a second, and at once if ``now``.

        Args:
            now: Whether ranks are to speak with each other at this step whatever the time.

        Returns:
            The answer.
        """
        if ranks.count() == 1:
            stop = received()
            return Wanted(stop is not None or self._due(), stop)
        self._left -= 1
        if self._left and not now:
            return Wanted(False, None)
        return self._agree()

    def saved(self, started: float) -> None:
        """Note that a state was saved, so that the next one waits.

        Args:
            started: When the saving began, by ``time.monotonic()``.
        """
        self._since = time.monotonic()
        self._cost = self._since - started

    def _due(self) -> bool:
        return time.monotonic() - self._since >= max(SAVE_EVERY, self._cost / _SHARE)

    def _agree(self) -> Wanted:
        """Tell the others of a signal; the first rank tells when to save, and how many steps to go until the next."""
        now = time.monotonic()
        done, seconds = self._every - self._left, now - self._agreed
        first = [int(self._due()), max(1, round(done * _AGREE_EVERY / max(seconds, 1e-6)))]
        told = torch.tensor([received() is not None, *(first if ranks.is_main() else (0, 0))], dtype=torch.int64)
        ranks.sum_over_ranks([told])
        stop, due, steps = told.tolist()
        self._every = self._left = steps
        self._agreed = now
        return Wanted(bool(stop or due), (received() or "a signal to another rank") if stop else None)

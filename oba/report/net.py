"""A net of a sweep, as the report names it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from oba.layout import DENSE_LONGER, Coordinates

DENSE = "dense"
"""Method and variant of the dense net."""
FINETUNED = "finetuned"
"""Variant of a pruned net that was fine-tuned."""
SCRATCH = "scratch"
"""Variant of a pruned architecture that was trained from new weights."""
COORDINATES = ["model", "seed", "method", "schedule", "keep", "variant"]
"""The columns that name a net."""


@dataclass(frozen=True)
class Net:
    """One net of a sweep, finished or not.

    Attributes:
        model: The model's slug.
        seed: The sweep's seed.
        method: A method, ``dense`` or ``dense-longer``.
        schedule: ``iterative`` or ``oneshot``; empty for the dense net.
        keep: The level; 1 for the dense net.
        variant: ``dense``, ``finetuned`` or ``scratch``.
        directory: Where its files are.
    """

    model: str
    seed: int
    method: str
    schedule: str
    keep: float
    variant: str
    directory: Path

    @classmethod
    def of(cls, at: Coordinates, directory: Path) -> Net:
        """Name a net as the report does.

        Args:
            at: Its coordinates in the sweep.
            directory: Where its files are.

        Returns:
            The net.
        """
        assert at.seed is not None, "every evaluated net has a seed"
        keep = float(at.keep or 1)
        return cls(at.model, at.seed, at.method or DENSE, at.schedule, keep, at.variant, directory)

    @property
    def coordinates(self) -> tuple[str | int | float, ...]:
        """The values of :data:`COORDINATES`."""
        return tuple(getattr(self, name) for name in COORDINATES)

    @property
    def is_pruned(self) -> bool:
        """Whether structures were removed: not from the dense net and the control that only trains longer."""
        return self.method not in (DENSE, DENSE_LONGER)

    @property
    def pruned(self) -> Path:
        """Where its structures were removed, if they were."""
        return self.directory.parent / "pruned"


def seeds_of(nets: Iterable[Net]) -> str:
    """Return over how many seeds the nets of a sweep can be averaged.

    Args:
        nets: The nets.

    Returns:
        ``"3"``, or ``"1 to 3"`` where some are missing; empty if no net has a second seed.
    """
    counts = Counter(replace(net, seed=0, directory=Path()) for net in nets).values()
    low, high = min(counts, default=1), max(counts, default=1)
    return "" if high == 1 else f"{high}" if low == high else f"{low} to {high}"

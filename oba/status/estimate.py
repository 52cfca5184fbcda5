"""How long a sweep will still take, by what its finished jobs of the same kind took."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from statistics import median

from oba.status.cells import Cell, State

ENOUGH = 25
"""Durations of one kind that are looked at: the latest ones."""


class Durations:
    """What finished jobs took, by kind."""

    def __init__(self) -> None:
        self._known: defaultdict[Hashable, list[float]] = defaultdict(list)

    def add(self, kind: Hashable, seconds: float) -> None:
        """Note what a finished job took."""
        self._known[kind].append(seconds)

    def typical(self, kind: Hashable) -> float | None:
        """Return what a job of a kind takes, in seconds; None if none was finished."""
        known = self._known.get(kind)
        return median(known[-ENOUGH:]) if known else None


def time_left(
    waiting: Iterable[Hashable], running: Sequence[tuple[Hashable, float, float | None]], durations: Durations
) -> float | None:
    """Estimate when all jobs are done, if as many run at once as do now.

    Args:
        waiting: The kind of each job that is to be started.
        running: Kind, seconds since the start and seconds to go, if known, of each job that runs.
        durations: What finished jobs took.

    Returns:
        Seconds, or None where nothing runs, or no job of a kind has been finished.
    """
    if not running:
        return None
    seconds = 0.0
    guessed = Durations()
    for kind, elapsed, left in running:
        typical = durations.typical(kind)
        if left is None and typical is None:
            return None
        left = max(0.0, (typical or 0.0) - elapsed) if left is None else left
        guessed.add(kind, elapsed + left)  # the first of its kind says what the others will take
        seconds += left
    for kind, count in Counter(waiting).items():
        typical = durations.typical(kind) or guessed.typical(kind)
        if typical is None:
            return None
        seconds += count * typical
    return seconds / len(running)


def sweep_left(cells: Sequence[Cell], durations: Durations) -> float | None:
    """Estimate when a sweep is done.

    No chain is done before its own jobs were run one after the other, however many run at once.

    Args:
        cells: All its jobs.
        durations: What finished ones took.

    Returns:
        Seconds, or None if there is nothing to estimate from.
    """
    running = [(cell.kind, cell.seconds or 0.0, cell.left) for cell in cells if cell.state is State.RUNNING]
    waiting = [cell for cell in cells if cell.state in {State.WAITING, State.STOPPED, State.OUTDATED}]
    shared = time_left((cell.kind for cell in waiting), running, durations)
    if shared is None:
        return None
    chains: defaultdict[Hashable, float] = defaultdict(float)
    for cell in waiting:
        level = "" if cell.at.schedule == "iterative" else cell.at.keep
        chains[cell.at.model, cell.at.seed, cell.at.method, level] += durations.typical(cell.kind) or 0.0
    return max([shared, *chains.values()])

"""What is said of a job in a few words: how far it is, how it went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from oba.status.signs import Progress
from oba.training.progress import duration


def progress_text(progress: Progress, *, host: str = "", slurm: str = "", sign: float | None = None) -> str:
    """Return how far a job is.

    Args:
        progress: What it saved.
        host: The machine that it runs on.
        slurm: Its SLURM job, if it is one.
        sign: Seconds since it last wrote anything, if that is all that is known of its life.

    Returns:
        Such as ``epoch 12/150  1,234 images/s  3:10 left``.
    """
    parts = []
    if progress.unit and progress.of:
        parts.append(f"{progress.unit} {progress.done}/{progress.of}")
    elif progress.done:
        parts.append(f"{progress.unit} {progress.done}")
    if progress.rate is not None:
        parts.append(f"{progress.rate:,.0f} images/s")
    if progress.left is not None:
        parts.append(f"{duration(progress.left)} left")
    if progress.resumed is not None:
        parts.append(f"resumed at epoch {progress.resumed}")
    if sign is not None:
        job = f" (SLURM job {slurm})" if slurm else ""
        parts.append(f"on {host or 'another machine'}{job}, last sign {duration(sign)} ago")
    return "  ".join(parts)


def outcome(record: Path) -> str:
    """Return how a finished job went.

    Args:
        record: The file that it writes last.

    Returns:
        Such as ``val   97.6 %``; empty for a job that measures nothing.
    """
    try:
        if record.name == "evaluation-run.json":
            said = _read(record.with_name("evaluation.json"))
            return f"test {_percent(said['test']['top1'])}"
        said = _read(record.with_name("metrics.json"))
        return f"val  {_percent(said['val']['top1'])}"
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _percent(fraction: float) -> str:
    return f"{100 * fraction:5.1f} %"

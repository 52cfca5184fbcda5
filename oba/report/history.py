"""Reading of the stages' training histories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from oba.errors import FileError
from oba.report.frames import read_csv

_COLUMNS = ["epoch", "train_loss", "val_top1"]


def read_history(path: Path) -> pd.DataFrame:
    """Read the epochs of one training.

    Args:
        path: A stage's ``history.csv``.

    Returns:
        ``epoch``, ``train_loss`` and ``val_top1``, one row per epoch; no row where nothing was trained.

    Raises:
        FileError: If the file is missing or damaged.
    """
    frame = read_csv(path)
    missing = [column for column in _COLUMNS if column not in frame.columns]
    if missing:
        raise FileError(f"{path}: no column {missing[0]!r}; there are {', '.join(map(str, frame.columns))}")
    found = {}
    for column in _COLUMNS:
        values = np.array([_number(value) for value in frame[column]], dtype=float)
        wrong = ~np.isfinite(values)
        if wrong.any():
            raise FileError(f"{path}: {column} in row {int(wrong.argmax()) + 1} is not a finite number")
        found[column] = values
    return pd.DataFrame(found)


def _number(value: object) -> float:
    """Return a cell as a number, NaN where it is none."""
    try:
        return float(str(value))
    except ValueError:
        return float("nan")


def mean_history(paths: Sequence[Path]) -> pd.DataFrame:
    """Join the trainings of several seeds, epoch by epoch.

    Args:
        paths: The seeds' ``history.csv`` files.

    Returns:
        One row per epoch: ``epoch``, and for ``train_loss`` and ``val_top1`` (in per cent) the mean under the same
        name, the smallest under ``_low`` and the largest under ``_high``.
    """
    joined = pd.concat([read_history(path) for path in paths], ignore_index=True)
    joined = joined.assign(val_top1=joined.val_top1 * 100)
    found = joined.groupby("epoch", as_index=False).agg(
        train_loss=("train_loss", "mean"),
        train_loss_low=("train_loss", "min"),
        train_loss_high=("train_loss", "max"),
        val_top1=("val_top1", "mean"),
        val_top1_low=("val_top1", "min"),
        val_top1_high=("val_top1", "max"),
    )
    return found.sort_values("epoch", ignore_index=True)

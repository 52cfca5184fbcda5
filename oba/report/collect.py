"""One row per evaluated net, gathered from the files of the stages: ``runs.csv``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from oba.errors import FileError
from oba.report.fields import Document
from oba.report.frames import read_table

DENSE = "dense"
"""Method of the dense net's cell."""
DENSE_LONGER = "dense-longer"
"""Method of the control chain that removes nothing and trains as long as the others."""
FINETUNED = "finetuned"
"""Variant of a pruned net that was fine-tuned."""
SCRATCH = "scratch"
"""Variant of a pruned architecture that was trained from new weights."""

Cell = Mapping[str, Any]
"""One evaluated net: ``model``, ``seed``, ``method``, ``schedule``, ``keep``, ``variant``, ``directory``."""

COORDINATES = ["model", "seed", "method", "schedule", "keep", "variant"]
"""The columns that name a net."""
_TEXT = ["model", "method", "schedule", "variant", "device", "warning_text"]
_MEASURED = [
    "test_top1",
    "test_top5",
    "test_loss",
    "test_images",
    "val_top1",
    "val_top1_before_finetuning",
    "macs",
    "macs_kept",
    "parameters",
    "bytes",
    "latency_ms",
    "dense_latency_ms",
    "speedup",
    "speedup_low",
    "speedup_high",
    "latency_batch",
    "latency_runs",
    "epochs",
    "seconds",
    "norm_recalibrated",
    "device",
    "threads",
    "warnings",
    "warning_text",
]
RUN_COLUMNS = COORDINATES + _MEASURED
"""The columns of ``runs.csv``. Accuracies, ``keep`` and ``macs_kept`` are fractions, times are milliseconds for latency
and seconds for training; the speedup is the median of paired ratios dense/net with its quartiles."""


def is_pruned(cell: Cell) -> bool:
    """Tell whether structures were removed from a cell's net.

    Args:
        cell: The evaluated net.

    Returns:
        False for the dense net and the control that only trains longer.
    """
    return cell["method"] not in (DENSE, DENSE_LONGER)


def pruned_directory(cell: Cell) -> Path:
    """Return the directory in which a pruned net's structures were removed.

    Args:
        cell: A net for which :func:`is_pruned` holds.

    Returns:
        ``pruned`` beside the cell's own directory.
    """
    return Path(cell["directory"]).parent / "pruned"


def collect(cells: Iterable[Cell]) -> pd.DataFrame:
    """Gather the results of all evaluated nets.

    Args:
        cells: The evaluated nets, in the order of the study.

    Returns:
        One row per net, in the same order, with the columns :data:`RUN_COLUMNS`; what does not apply is missing.

    Raises:
        FileError: If there is no net, or a stage's file is missing or damaged.
    """
    rows = [_row(cell) for cell in cells]
    if not rows:
        raise FileError("report: no evaluated net to report on; expected at least a dense one")
    frame = pd.DataFrame(rows, columns=pd.Index(RUN_COLUMNS))
    for column in ("test_top5", "val_top1_before_finetuning"):
        frame[column] = frame[column].astype("float64")
    return frame


def read_runs(path: Path) -> pd.DataFrame:
    """Read a ``runs.csv`` back.

    Args:
        path: The file.

    Returns:
        The table that :func:`collect` made.
    """
    return read_table(path, RUN_COLUMNS, _TEXT)


def _row(cell: Cell) -> dict[str, Any]:
    directory = Path(cell["directory"])
    evaluation = Document(directory / "evaluation.json")
    metrics = Document(directory / "metrics.json")
    return {
        **{key: cell[key] for key in COORDINATES},
        "test_top1": evaluation.fraction("test.top1"),
        "test_top5": evaluation.optional_fraction("test.top5"),
        "test_loss": evaluation.number("test.loss"),
        "test_images": evaluation.integer("test.images", least=1),
        "val_top1": metrics.fraction("val.top1"),
        "macs": evaluation.integer("cost.macs"),
        "macs_kept": evaluation.number("macs_kept"),
        "parameters": evaluation.integer("cost.parameters"),
        "bytes": evaluation.integer("cost.bytes"),
        "latency_ms": evaluation.number("latency.median_ms"),
        "dense_latency_ms": evaluation.number("latency.dense_median_ms"),
        "speedup": evaluation.number("latency.speedup"),
        "speedup_low": evaluation.number("latency.speedup_low"),
        "speedup_high": evaluation.number("latency.speedup_high"),
        "latency_batch": evaluation.integer("latency.batch"),
        "latency_runs": evaluation.integer("latency.runs"),
        "epochs": metrics.integer("epochs"),
        "seconds": metrics.number("seconds"),
        "device": evaluation.text("device"),
        "threads": evaluation.integer("threads"),
        **_pruning(cell),
    }


def _pruning(cell: Cell) -> dict[str, Any]:
    """What the pruned sibling says: warnings hold for every net of its architecture, the rest for its weights only."""
    if not is_pruned(cell):
        return {"val_top1_before_finetuning": None, "norm_recalibrated": False, "warnings": 0, "warning_text": ""}
    pruned = Document(pruned_directory(cell) / "metrics.json")
    inherits = cell["variant"] == FINETUNED
    before = pruned.fraction("val.top1")
    recalibrated = pruned.flag("norm_recalibrated")
    warnings = pruned.texts("warnings")
    return {
        "val_top1_before_finetuning": before if inherits else None,
        "norm_recalibrated": recalibrated and inherits,
        "warnings": len(warnings),
        "warning_text": " | ".join(warnings),
    }

"""One row per net of the sweep, gathered from the files of the stages: ``runs.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from oba.errors import FileError
from oba.files import read_record
from oba.records import Duplicates, Evaluation, Pruned, Trained
from oba.report.frames import read_table, records, where
from oba.report.granularity import STRUCTURES, WEIGHTS
from oba.report.net import COORDINATES, DENSE, FINETUNED, Net

_PARTS = ["criterion", "allocation", "update", "granularity"]
_INTEGERS = ["test_images", "macs", "parameters", "bytes", "latency_batch", "latency_runs", "epochs", "threads"]
_INTEGERS += ["warnings"]
_TEXT = ["model", "method", "schedule", "variant", "missing", *_PARTS, "device", "warning_text", "duplicates"]
BETWEEN_WARNINGS = " | "
"""What stands between the warnings of one net."""
_MEASURED = [
    "test_top1",
    "test_top5",
    "test_loss",
    "test_images",
    "val_top1",
    "val_top1_before_finetuning",
    "macs",
    "macs_kept",
    "weights_kept",
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
    *_PARTS,
    "device",
    "threads",
    "warnings",
    "warning_text",
    "duplicates",
]
RUN_COLUMNS = [*COORDINATES, "missing", *_MEASURED]
"""The columns of ``runs.csv``. ``missing`` says why a net is not there, and is empty if it is. Accuracies, ``keep``,
``macs_kept`` and ``weights_kept`` (of the weights that may go, where single weights went) are fractions, times are
milliseconds for latency and seconds for training; the speedup is the median of paired ratios dense/net with its
quartiles. ``criterion``, ``allocation`` and ``granularity`` hold for every net of an architecture, ``update`` for the
one that inherits the updated weights. ``duplicates`` counts the identical images in two parts of the seed's data."""


def collect(
    nets: Sequence[Net], missing: Mapping[Net, str] | None = None, duplicates: Mapping[int, Duplicates] | None = None
) -> pd.DataFrame:
    """Gather the results of all nets.

    Args:
        nets: The nets of the sweep, in the order of the study.
        missing: Why a net is missing, for those that are.
        duplicates: What :func:`oba.data.duplicates.find_duplicates` found, by seed.

    Returns:
        One row per net, in the same order, with the columns :data:`RUN_COLUMNS`; what does not apply is missing.

    Raises:
        FileError: If no dense net is there, or a stage's file is missing or damaged.
    """
    missing = missing or {}
    if not any(net.method == DENSE and net not in missing for net in nets):
        why = next(iter(missing.values()), "the sweep is empty")
        raise FileError(f"report: no dense net has been evaluated, so there is nothing to compare with; {why}")
    rows = [_row(net, missing.get(net, ""), (duplicates or {}).get(net.seed)) for net in nets]
    return _typed(pd.DataFrame(rows, columns=pd.Index(RUN_COLUMNS)))


def read_runs(path: Path) -> pd.DataFrame:
    """Read a ``runs.csv`` back.

    Args:
        path: The file.

    Returns:
        The table that :func:`collect` made.
    """
    return _typed(read_table(path, RUN_COLUMNS, _TEXT))


def finished(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the nets that are there.

    Args:
        runs: The table of :func:`collect`.

    Returns:
        The rows, in order.
    """
    return where(runs, runs.missing == "")


def finished_nets(nets: Sequence[Net], runs: pd.DataFrame) -> list[Net]:
    """Return the nets that a table has results of.

    Args:
        nets: The nets of the sweep.
        runs: The table of :func:`collect`.

    Returns:
        The nets, in order.
    """
    there = {tuple(row) for row in records(finished(runs).filter(COORDINATES))}
    return [net for net in nets if net.coordinates in there]


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Give numbers types that allow for blanks."""
    numbers = [column for column in _MEASURED if column not in (*_TEXT, *_INTEGERS)]
    types = dict.fromkeys(numbers, "float64") | dict.fromkeys(_INTEGERS, "Int64")
    return frame.astype(types)


def _row(net: Net, missing: str, duplicates: Duplicates | None) -> dict[str, Any]:
    named = dict.fromkeys(_TEXT, "") | dict(zip(COORDINATES, net.coordinates, strict=True)) | {"missing": missing}
    if missing:
        return named
    evaluation = read_record(net.directory / "evaluation.json", Evaluation)
    trained = read_record(net.directory / "metrics.json", Trained)
    test, latency = evaluation.test, evaluation.latency
    return {
        **named,
        "test_top1": test.top1,
        "test_top5": test.top5,
        "test_loss": test.loss,
        "test_images": test.images,
        "val_top1": trained.val.top1,
        "macs_kept": evaluation.macs_kept,
        "weights_kept": evaluation.weights.fraction if evaluation.weights else None,
        **evaluation.cost.model_dump(),
        "latency_ms": latency.median_ms,
        "dense_latency_ms": latency.dense_median_ms,
        "speedup": latency.speedup,
        "speedup_low": latency.speedup_low,
        "speedup_high": latency.speedup_high,
        "latency_batch": latency.batch,
        "latency_runs": latency.runs,
        "epochs": trained.epochs,
        "seconds": trained.seconds,
        "device": evaluation.device,
        "threads": evaluation.threads,
        "warnings": 0,
        "duplicates": _counts(duplicates),
        **(_pruning(net) if net.is_pruned else {}),
    }


def _pruning(net: Net) -> dict[str, Any]:
    """What the pruned sibling says: of the architecture for every net that has it, of the weights for its heir only."""
    pruned = read_record(net.pruned / "metrics.json", Pruned)
    parts = pruned.method.model_dump() if pruned.method else {}
    inherits = net.variant == FINETUNED
    return {
        **parts,
        "update": parts.get("update", "") if inherits else "",
        "granularity": WEIGHTS if pruned.weights else STRUCTURES,
        "val_top1_before_finetuning": pruned.val.top1 if inherits else None,
        "warnings": len(pruned.warnings),
        "warning_text": BETWEEN_WARNINGS.join(pruned.warnings),
    }


def _counts(duplicates: Duplicates | None) -> str:
    counts = duplicates.counts if duplicates else {}
    return ", ".join(f"{count} {pair}" for pair, count in counts.items() if count)

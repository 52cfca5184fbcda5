"""What the seeds say together: one row per net of the sweep, ``summary.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from oba.errors import FileError
from oba.layout import DENSE_LONGER
from oba.report.collect import finished
from oba.report.frames import grouped, read_table, records, where
from oba.report.net import DENSE, FINETUNED

_NET = ["model", "schedule", "keep", "method", "variant", "granularity"]
SUMMARY_COLUMNS = [
    *_NET,
    "seeds",
    "top1_percent",
    "top1_percent_std",
    "top5_percent",
    "drop_points",
    "drop_points_std",
    "macs_kept_percent",
    "weights_kept_percent",
    "parameters_kept_percent",
    "speedup",
    "speedup_low",
    "speedup_high",
    "versus",
    "versus_points",
    "versus_points_std",
    "versus_seeds",
]
"""The columns of ``summary.csv``: means over seeds, ``_std`` the sample standard deviations (blank for one seed).
``drop_points`` is what the same seed's dense net has more, in percentage points; ``versus_points`` what a net has more
than the same seed's net named in ``versus`` (the first method of the same granularity, fine-tuned, same schedule and
level)."""


def summarize(runs: pd.DataFrame, first_method: str, *others: str) -> pd.DataFrame:
    """Join the seeds of every net, and compare with the dense net and with the first method, seed by seed.

    A level is a fraction of MACs for some methods and of weights for others, so each is compared with the first method
    of its own granularity.

    Args:
        runs: The table of :func:`oba.report.collect.collect`; nets that are missing are left out.
        first_method: The study's first method.
        others: The first methods of other granularities.

    Returns:
        A table with the columns :data:`SUMMARY_COLUMNS`: for every model the dense net, then by schedule, falling
        level and method (the first one first, each followed by its control from new weights; ``dense-longer`` last).
    """
    runs = finished(runs)
    paired = _with_partners(runs, first_method, others)
    rows = [_summary(dict(zip(_NET, key, strict=True)), group) for key, group in grouped(paired, _NET)]
    return _ordered(pd.DataFrame(rows, columns=pd.Index(SUMMARY_COLUMNS)), runs, first_method)


def read_summary(path: Path) -> pd.DataFrame:
    """Read a ``summary.csv`` back.

    Args:
        path: The file.

    Returns:
        The table that :func:`summarize` made.
    """
    return read_table(path, SUMMARY_COLUMNS, ["model", "schedule", "method", "variant", "granularity", "versus"])


def _with_partners(runs: pd.DataFrame, first_method: str, others: Sequence[str]) -> pd.DataFrame:
    """Put beside every net what the same seed's dense net and first-method net have."""
    dense = where(runs, runs.method == DENSE).filter(["model", "seed", "test_top1", "parameters"])
    finetuned = where(runs, runs.variant == FINETUNED)
    named = where(finetuned, finetuned.method.isin([first_method, *others]))
    firsts = dict(zip(named.granularity, named.method, strict=True)) | {"": first_method}
    first = where(finetuned, finetuned.method == finetuned.granularity.map(firsts))
    first = first.filter(["model", "seed", "schedule", "keep", "method", "test_top1"])
    first = first.rename(columns={"method": "first"})
    runs = runs.assign(first=runs.granularity.map(firsts))
    paired = runs.merge(dense, on=["model", "seed"], how="left", suffixes=("", "_dense"))
    alone = records(where(paired, paired.test_top1_dense.isna()))
    if alone:
        row = alone[0]
        raise FileError(
            f"report: {row.model}, seed {row.seed}: no dense net among the evaluated nets; every seed needs its own"
        )
    return paired.merge(first, on=["model", "seed", "schedule", "keep", "first"], how="left", suffixes=("", "_first"))


def _summary(net: dict[str, Any], group: pd.DataFrame) -> dict[str, Any]:
    dense, first_method = net["method"] == DENSE, group["first"].iloc[0]
    is_first = net["method"] == first_method and net["variant"] == FINETUNED
    top1 = group.test_top1 * 100
    drop = (group.test_top1_dense - group.test_top1) * 100
    versus = ((group.test_top1 - group.test_top1_first) * 100).dropna()
    compared = len(versus) > 0 and not dense and not is_first
    return {
        **net,
        "seeds": len(group),
        "top1_percent": top1.mean(),
        "top1_percent_std": top1.std(ddof=1),
        "top5_percent": (group.test_top5 * 100).mean(),
        "drop_points": None if dense else drop.mean(),
        "drop_points_std": None if dense else drop.std(ddof=1),
        "macs_kept_percent": (group.macs_kept * 100).mean(),
        "weights_kept_percent": (group.weights_kept * 100).mean(),
        "parameters_kept_percent": (group.parameters / group.parameters_dense * 100).mean(),
        "speedup": group.speedup.mean(),
        "speedup_low": group.speedup_low.mean(),
        "speedup_high": group.speedup_high.mean(),
        "versus": first_method if compared else "",
        "versus_points": versus.mean() if compared else None,
        "versus_points_std": versus.std(ddof=1) if compared else None,
        "versus_seeds": len(versus) if compared else 0,
    }


def _ordered(summary: pd.DataFrame, runs: pd.DataFrame, first_method: str) -> pd.DataFrame:
    """Sort by model, schedule (both as in the study), falling level and method."""
    methods = [c for c in runs.method.unique() if c not in (DENSE, DENSE_LONGER, first_method)]
    ranks = {
        "model": list(runs.model.unique()),
        "schedule": ["", *(s for s in runs.schedule.unique() if s)],
        "method": [DENSE, first_method, *methods, DENSE_LONGER],
        "variant": [DENSE, FINETUNED, *(v for v in runs.variant.unique() if v not in (DENSE, FINETUNED))],
    }

    def rank(column: pd.Series) -> pd.Series:
        order = ranks.get(str(column.name))
        return -column if order is None else column.map(order.index)

    columns = ["model", "schedule", "keep", "method", "variant"]
    return summary.sort_values(columns, key=rank, kind="stable", ignore_index=True)

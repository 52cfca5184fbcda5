"""What came out of a sweep, in a sentence for each model."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from oba.report.collect import finished
from oba.report.frames import grouped, records, where
from oba.report.granularity import MEASURES
from oba.report.net import DENSE, FINETUNED

_TIED = 4
"""Methods that cannot be told from the best one and are named."""
_ERRORS = 2.0
"""Standard errors of a difference below which two nets are called equal."""


def headlines(summary: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """Say which method loses least at the smallest level, and how sure that is.

    Args:
        summary: The table of :func:`oba.report.summarize.summarize`.
        runs: The table of :func:`oba.report.collect.collect`.

    Returns:
        One text for each model and granularity, or on the dense net of a model of which no pruned net is finished.
    """
    images = int(finished(runs).test_images.min())
    pruned = where(summary, (summary.variant == FINETUNED) & (summary.granularity != ""))
    found = []
    several = summary.model.nunique() > 1
    for (model,), of_model in grouped(summary, ["model"]):
        dense = records(where(of_model, of_model.method == DENSE))[0]
        start = f"{model}: " if several else ""
        nets = where(pruned, pruned.model == model)
        if nets.empty:
            found.append(f"{start}the dense network reaches {_percent(dense)}; no pruned network is finished.")
        for (granularity,), level in grouped(nets, ["granularity"]):
            smallest = where(level, level.keep == level.keep.min())
            found.append(start + _sentence(smallest, dense, MEASURES[str(granularity)].noun, images))
    return found


def _sentence(level: pd.DataFrame, dense: Any, noun: str, images: int) -> str:
    ranked = records(level.sort_values("top1_percent", ascending=False, kind="stable"))
    best, others = ranked[0], ranked[1:]
    schedules = level.schedule.nunique() > 1

    def name(row: Any) -> str:
        return f"{row.method} ({row.schedule})" if schedules else str(row.method)

    change = -best.drop_points
    difference = f"{abs(change):.1f} points {'below' if change < 0 else 'above'}" if round(change, 1) else "the same as"
    text = (
        f"At {best.keep * 100:.0f} % of the {noun}, {name(best)} reaches {_percent(best)} on the test images, "
        f"{difference} the dense network ({_percent(dense)})"
    )
    if not others:
        return f"{text}{_seeds(level)}."
    tied = [row for row in others if best.top1_percent - row.top1_percent < _ERRORS * _error(best, row, images)]
    worst, what = others[-1], "pairs of method and schedule" if schedules else "methods"
    text += f"; the lowest of {len(ranked)} {what} is {name(worst)} with {_percent(worst)}{_seeds(level)}."
    if not tied:
        return text
    if len(tied) == len(others):
        return f"{text} None can be told from the best: all differences are within two standard errors."
    named = ", ".join(name(row) for row in tied[:_TIED])
    more = f" and {len(tied) - _TIED} more" if len(tied) > _TIED else ""
    return f"{text} Within two standard errors of the best: {named}{more}."


def _seeds(level: pd.DataFrame) -> str:
    low, high = level.seeds.min(), level.seeds.max()
    if high == 1:
        return " (one seed)"
    return f" (means over {low} to {high} seeds)" if low < high else f" (means over {high} seeds)"


def _percent(row: Any) -> str:
    spread = "" if pd.isna(row.top1_percent_std) else f" ± {row.top1_percent_std:.1f}"
    return f"{row.top1_percent:.1f}{spread} %"


def _error(one: Any, other: Any, images: int) -> float:
    """Return the standard error of the difference of two means, in points: over seeds, or of the images of one seed."""
    if min(one.seeds, other.seeds) > 1:
        return math.sqrt(sum(row.top1_percent_std**2 / row.seeds for row in (one, other)))
    return math.sqrt(sum(row.top1_percent * (100 - row.top1_percent) / images for row in (one, other)))

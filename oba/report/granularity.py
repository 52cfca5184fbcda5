"""What methods remove, structures or single weights, and what a net of theirs is measured by."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from oba.report.frames import where

STRUCTURES = "structures"
WEIGHTS = "weights"


class Measure(NamedTuple):
    """What is kept of a net.

    Attributes:
        column: Of the summary, in per cent.
        noun: What it counts.
    """

    column: str
    noun: str


MEASURES = {STRUCTURES: Measure("macs_kept_percent", "MACs"), WEIGHTS: Measure("weights_kept_percent", "weights")}
"""By granularity. Where single weights went, MACs are still those of the dense net."""


def granularities(summary: pd.DataFrame) -> list[str]:
    """Return what the methods of a sweep remove.

    Args:
        summary: The table of :func:`oba.report.summarize.summarize`.

    Returns:
        Structures or weights or both; structures where there is no method.
    """
    found = set(summary.granularity)
    return [name for name in MEASURES if name in found] or [STRUCTURES]


def of_granularity(rows: pd.DataFrame, granularity: str) -> pd.DataFrame:
    """Return the nets that belong into a comparison of one granularity.

    Args:
        rows: Rows of the summary.
        granularity: Of the methods.

    Returns:
        Their rows, and those of nets of which nothing was removed.
    """
    return where(rows, rows.granularity.isin(["", granularity]))

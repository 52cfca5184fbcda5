"""The training curves that the page can show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oba.report.history import read_history
from oba.report.net import Net
from oba.report.page.budget import Budget, seeds_first, thinned
from oba.report.page.columns import rounded, rounded_all

POINTS = 120
"""Epochs of one training."""
NUMBERS = 500_000
"""Of all trainings."""


def trainings(nets: Sequence[Net]) -> dict[str, Any]:
    """Gather the histories of the finished nets.

    Args:
        nets: The nets in the order of the page's table.

    Returns:
        ``curves``, each with ``net`` (its row), ``epoch``, ``train_loss`` and ``val_top1`` (per cent); ``left_out``,
        the number of nets for which there was no room; ``thinned``, whether epochs were left out.
    """
    budget, curves, fewer = Budget(NUMBERS), [], False
    for place, net in seeds_first(nets):
        if budget.left < 3:
            budget.takes(3)
            continue
        history = read_history(net.directory / "history.csv")
        chosen = thinned(range(len(history)), POINTS)
        if not chosen or not budget.takes(3 * len(chosen)):
            continue
        fewer = fewer or len(chosen) < len(history)
        part = history.iloc[chosen]
        curves.append({
            "net": place,
            "epoch": [rounded(epoch) for epoch in part.epoch],
            "train_loss": rounded_all(part.train_loss, 4),
            "val_top1": rounded_all(part.val_top1 * 100, 4),
        })
    return {"curves": sorted(curves, key=lambda c: c["net"]), "left_out": budget.left_out, "thinned": fewer}

"""What is left of every layer, as far as the page has room for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oba.report.kept import read_kept
from oba.report.net import Net
from oba.report.page.budget import Budget, seeds_first
from oba.report.style import in_order

NUMBERS = 700_000
"""Of all nets."""


def layers(nets: Sequence[Net]) -> dict[str, Any]:
    """Gather the channels, or weights, that every pruned net keeps.

    Args:
        nets: The finished nets in the order of the page's table.

    Returns:
        ``blocks``, one for each model and granularity, with ``model``, ``granularity``, ``layers``, ``dense`` and
        ``nets`` (``net``, its row, and ``kept`` by layer); ``left_out``, the number of nets without room.
    """
    budget, blocks = Budget(NUMBERS), []
    for model in in_order(nets, "model"):
        for kept in read_kept(nets, model):
            found = [
                {"net": place, "kept": [kept.left[net][name] for name in kept.dense]}
                for place, net in seeds_first(nets)
                if net in kept.left and budget.takes(len(kept.dense))
            ]
            if found:
                blocks.append({
                    "model": model,
                    "granularity": kept.granularity,
                    "layers": kept.names,
                    "dense": list(kept.dense.values()),
                    "nets": sorted(found, key=lambda entry: entry["net"]),
                })
    return {"blocks": blocks, "left_out": budget.left_out}

"""How nets do class by class, where their evaluation says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oba.files import read_json
from oba.report.net import Net
from oba.report.page.budget import Budget, seeds_first

NUMBERS = 400_000
"""Of all nets."""
CONFUSIONS = 300
"""Kinds of wrong predictions of one net, the most frequent ones."""


def classes(nets: Sequence[Net], names: Sequence[str]) -> dict[str, Any]:
    """Gather what the evaluations say of single classes.

    Args:
        nets: The finished nets in the order of the page's table.
        names: Of the classes.

    Returns:
        ``names``; ``nets``, each with ``net`` (its row), ``images`` and ``correct`` by class, and ``confusions`` (true
        class, predicted class, images), cut where ``cut`` says so; ``left_out``, the number of nets for which there was
        no room. No net where the evaluations are of a version that did not count classes.
    """
    budget, found, longest = Budget(NUMBERS), [], 0
    for place, net in seeds_first(nets):
        if budget.left < 2:
            budget.takes(2)
            continue
        evaluation = read_json(net.directory / "evaluation.json")
        images, correct = evaluation.get("class_images"), evaluation.get("class_correct")
        if not images or not correct:
            continue
        every = evaluation.get("confusions") or []
        confusions = every[:CONFUSIONS]
        if budget.takes(2 * len(images) + 3 * len(confusions)):
            cut = len(confusions) < len(every)
            found.append({"net": place, "images": images, "correct": correct, "confusions": confusions, "cut": cut})
            longest = max(longest, len(images))
    known = [*map(str, names), *(str(number) for number in range(len(names), longest))]
    return {"names": known, "nets": sorted(found, key=lambda n: n["net"]), "left_out": budget.left_out}

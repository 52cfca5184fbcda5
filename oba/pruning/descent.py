r"""Descent: what the rounds of one level aim at, on the way from what is kept before to the level.

With s kept before, the level t, and the part :math:`p = r/R` of the way that round r of R ends,

.. math:: \text{linear: } s + (t - s)\,p, \qquad
          \text{exponential: } s\,(t/s)^p, \qquad
          \text{cubic: } t + (s - t)(1 - p)^3

Exponential rounds keep the same fraction of what is left each (the paper's); cubic ones remove most at first, while
there is much to choose from (Zhu and Gupta, 2017).
"""

from __future__ import annotations

from oba.config import Descent


def aim(descent: Descent, start: float, level: float, progress: float) -> float:
    """Return what a round is to keep.

    Args:
        descent: How the rounds step down.
        start: Fraction that is kept before the level's first round.
        level: Fraction to be kept after its last one.
        progress: The part of the way that the round ends: 1 in the last one.

    Returns:
        The fraction to be kept after the round.
    """
    match descent:
        case "linear":
            return start + (level - start) * progress
        case "exponential":
            return start * (level / start) ** progress
        case "cubic":
            return level + (start - level) * (1 - progress) ** 3

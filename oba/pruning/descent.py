r"""Descent: what the rounds of one level aim at, on the way from what is kept before to the level.

With s kept before, the level t, and the part :math:`p = r/R` of the way that round r of R ends,

.. math:: \text{linear: } s + (t - s)\,p, \qquad
          \text{exponential: } s\,(t/s)^p, \qquad
          \text{cubic: } t + (s - t)(1 - p)^3

Exponential rounds keep the same fraction of what is left each (the paper's); cubic ones remove most at first, while
there is much to choose from (Zhu and Gupta, 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

DESCENTS: Mapping[str, Callable[[float, float, float], float]] = {
    "linear": lambda start, level, progress: start + (level - start) * progress,
    "exponential": lambda start, level, progress: start * (level / start) ** progress,
    "cubic": lambda start, level, progress: level + (start - level) * (1 - progress) ** 3,
}
"""What a round is to keep, by the option ``descent``: of the fraction kept before the level's first round, the level,
and the part of the way that the round ends (1 in the last one)."""

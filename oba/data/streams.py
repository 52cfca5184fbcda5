"""Random streams: whatever is drawn has its own, so that no draw depends on the settings of another."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What is drawn with a seed; the numbers are part of every result."""

    TEST = 0
    VAL = 1
    CALIBRATION = 2
    STATISTICS = 3


def stream(seed: int, what: Stream) -> np.random.Generator:
    """Return the generator of one seed's stream."""
    return np.random.Generator(np.random.PCG64([seed, int(what)]))

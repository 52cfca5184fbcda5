"""What measures are called in MLflow.

MLflow draws one section of charts for each part before a ``/``, in alphabetical order, then the measures without such a
part, and those behind ``system/`` last. So a measure of the net has none, and what says how much work there was stands
with the machine's load at the end.
"""

from __future__ import annotations

from collections.abc import Mapping

from oba.tracking.limits import clean

SYSTEM = "system/"
"""Of what the net's page does not show."""
_WORK = {
    "images_per_second",
    "peak_memory_bytes",
    "scoring_gradients_per_batch",
    "scoring_seconds_per_batch",
    "seconds",
}


def numbers(values: Mapping[str, float]) -> dict[str, float]:
    """Return measures of any library as plain numbers under the names that MLflow shows.

    Args:
        values: Names and numbers.

    Returns:
        The same as floats, under names that MLflow allows and groups.
    """
    return {clean(SYSTEM + key if key in _WORK else key): float(value) for key, value in values.items()}

"""Tables as JSON: column by column, numbers rounded, texts coded, so that large ones stay small."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

_DIGITS = 6


def rounded(value: Any, digits: int = _DIGITS) -> float | int | None:
    """Return a number to some significant digits.

    Args:
        value: A number, or something that stands for a missing one.
        digits: How many.

    Returns:
        An integer where it is whole; None where it is missing or not finite.
    """
    if value is None or pd.isna(value) or not math.isfinite(value):
        return None
    number = float(value)
    if number.is_integer():
        return int(number)
    return float(f"{number:.{digits}g}")


def rounded_all(values: Iterable[Any], digits: int = _DIGITS) -> list[float | int | None]:
    """Return numbers as :func:`rounded` does."""
    return [rounded(value, digits) for value in values]


def as_columns(frame: pd.DataFrame) -> dict[str, Any]:
    """Return a table column by column.

    Args:
        frame: The table.

    Returns:
        By column a list of numbers, or for texts ``names`` (each once) and ``codes`` (the place of each row's name).
    """
    return {str(name): _column(pd.Series(frame[name])) for name in frame.columns}


def _column(values: pd.Series) -> Any:
    if values.dtype.kind in "ifub" or not any(isinstance(value, str) for value in values):
        return rounded_all(values)
    codes, names = pd.factorize(values.fillna("").astype(str))
    return {"names": [str(name) for name in names], "codes": codes.tolist()}

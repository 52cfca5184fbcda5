"""Tables: reading them with their columns checked, and the few operations on them with exact types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd

from oba.errors import FileError


def where(frame: pd.DataFrame, mask: Any) -> pd.DataFrame:
    """Return the rows for which a condition holds.

    Args:
        frame: The table.
        mask: One truth value per row.

    Returns:
        The rows, in order.
    """
    return cast("pd.DataFrame", frame.loc[mask])


def records(frame: pd.DataFrame) -> list[Any]:
    """Return the rows as named tuples.

    Args:
        frame: The table.

    Returns:
        One per row; the columns are attributes.
    """
    return list(frame.itertuples(index=False))


def grouped(frame: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Yield the groups of equal values in some columns, in the order in which they first appear.

    Args:
        frame: The table.
        by: The columns.

    Yields:
        The values of ``by`` and the rows that share them.
    """
    for key, group in frame.groupby(list(by), sort=False):
        yield cast("tuple[Any, ...]", key), group


def read_csv(path: Path, **how: Any) -> pd.DataFrame:
    """Read a CSV file.

    Args:
        path: The file.
        how: Options of ``pandas.read_csv``.

    Returns:
        The table.

    Raises:
        FileError: If the file is missing or damaged.
    """
    try:
        return pd.read_csv(path, **how)
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file; the stage that makes it has not run") from error
    except ValueError as error:
        raise FileError(f"{path}: not a readable table ({str(error).splitlines()[0]})") from error


def read_table(path: Path, columns: list[str], text: list[str]) -> pd.DataFrame:
    """Read a CSV file of this report; blanks are missing numbers and empty texts.

    Args:
        path: The file.
        columns: All columns, in order.
        text: Those that hold texts.

    Returns:
        The table.

    Raises:
        FileError: If the file is missing, damaged or has other columns.
    """
    blank = {column: [""] for column in columns if column not in text}
    frame = read_csv(path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=blank)
    if list(frame.columns) != columns:
        raise FileError(f"{path}: columns {', '.join(map(str, frame.columns))}; expected {', '.join(columns)}")
    if frame.empty:
        raise FileError(f"{path}: holds no row; expected one for each net or level")
    for column in blank:
        if frame[column].dtype.kind not in "ifb":
            raise FileError(f"{path}: column {column} holds {frame[column].iloc[0]!r}; expected numbers")
    return frame

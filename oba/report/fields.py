"""Reading of stage outputs with every value checked, so that damage is reported by file and key."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from oba.errors import FileError
from oba.files import read_json


class Document:
    """A JSON file of a stage.

    Args:
        path: The file.

    Attributes:
        path: The file, for messages.
    """

    def __init__(self, path: Path) -> None:
        """Read the file; raises FileError if it is missing or damaged."""
        self.path = Path(path)
        self._data = read_json(self.path)

    def number(self, key: str) -> float:
        """Return a finite number.

        Args:
            key: Where it is, with dots: ``"test.loss"``.

        Returns:
            The number.
        """
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(key, value, "a finite number")
        return float(value)

    def fraction(self, key: str) -> float:
        """Return a number between 0 and 1.

        Args:
            key: Where it is, with dots.

        Returns:
            The number.
        """
        value = self.number(key)
        if not 0 <= value <= 1:
            raise self.wrong(key, value, "a fraction between 0 and 1")
        return value

    def optional_fraction(self, key: str) -> float | None:
        """Return a number between 0 and 1, or ``None`` where the file says ``null``.

        Args:
            key: Where it is, with dots.

        Returns:
            The number, or ``None``.
        """
        return None if self._get(key) is None else self.fraction(key)

    def integer(self, key: str, least: int = 0) -> int:
        """Return a whole number.

        Args:
            key: Where it is, with dots.
            least: The smallest number allowed.

        Returns:
            The number.
        """
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.wrong(key, value, f"a whole number, {least} or more")
        return value

    def flag(self, key: str) -> bool:
        """Return true or false.

        Args:
            key: Where it is, with dots.

        Returns:
            The flag.
        """
        value = self._get(key)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def text(self, key: str) -> str:
        """Return a text.

        Args:
            key: Where it is, with dots.

        Returns:
            The text.
        """
        value = self._get(key)
        if not isinstance(value, str):
            raise self.wrong(key, value, "a text")
        return value

    def texts(self, key: str) -> list[str]:
        """Return a list of texts.

        Args:
            key: Where it is, with dots.

        Returns:
            The texts.
        """
        value = self._get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, value, "a list of texts")
        return value

    def wrong(self, key: str, value: Any, allowed: str) -> FileError:
        """Return the error for a value of the wrong kind.

        Args:
            key: Where it is, with dots.
            value: What is there.
            allowed: What may be there.

        Returns:
            The error, to raise.
        """
        shown = repr(value)
        shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
        return FileError(f"{self.path}: {key} is {shown}; expected {allowed}")

    def _get(self, key: str) -> Any:
        """Follow the dots; every step must exist."""
        value = self._data
        for step in key.split("."):
            if not isinstance(value, dict) or step not in value:
                raise FileError(f"{self.path}: {key} is missing; the file is damaged or of another version")
            value = value[step]
        return value

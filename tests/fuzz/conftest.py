"""How files are damaged: values replaced in what they say, and bytes in what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from oba.errors import ObaError

Key = tuple[str | int, ...]

STRANGE: list[Any] = [
    None, True, -1, 0, 2**63, 2**64, 10**400, 0.5, float("nan"), float("inf"), -0.0, 1e308,
    "", " ", "..", "../x", "/etc/passwd", "a/b", "a b", "x" * 300, "$(touch owned)", "`id`", "'", '"', "{seed}", "{",
    "\n", "\x00", "\ud800", "é", "☃", "1e-3", "nan", "-", "--study", "mlflow.db", "dense",
    [], {}, [[]], [None], [1, "a"], {"name": "x"}, {"name": None}, {1: 2}, {None: 1}, {"": ""},
]  # fmt: skip
"""Values that break what does not expect them."""


def places(value: Any, at: Key = ()) -> Iterator[Key]:
    """Yield the paths of everything inside of plain values."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def _replaced(values: Any, at: Key, new: Any) -> Any:
    if not at:
        return new
    values = deepcopy(values)
    inside = values
    for key in at[:-1]:
        inside = inside[key]
    inside[at[-1]] = new
    return values


def _without(values: Any, at: Key) -> Any:
    values = deepcopy(values)
    inside = values
    for key in at[:-1]:
        inside = inside[key]
    del inside[at[-1]]
    return values


@st.composite
def _damaged_values(draw: st.DrawFn, values: Any) -> Any:
    """Replace or remove up to three values, anywhere."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.sampled_from(list(places(values))))
        if at and draw(st.booleans()):
            values = _without(values, at)
        else:
            values = _replaced(values, at, deepcopy(draw(st.sampled_from(STRANGE) | st.integers() | st.text())))
    return values


@st.composite
def _damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Cut a file off, flip bits in it, or overwrite, insert or remove some of its bytes; never leave it as it was."""
    how = draw(st.sampled_from(["cut", "flip", "overwrite", "insert", "remove"]))
    at = draw(st.integers(0, len(content) - 1))
    if how == "cut":
        return content[:at]
    if how == "flip":
        return content[:at] + bytes([content[at] ^ 1 << draw(st.integers(0, 7))]) + content[at + 1 :]
    few = draw(st.binary(min_size=1, max_size=8))
    if how == "overwrite":
        few = few[: len(content) - at]
        few = few if few != content[at : at + len(few)] else bytes(byte ^ 1 for byte in few)
        return content[:at] + few + content[at + len(few) :]
    return content[:at] + few + content[at:] if how == "insert" else content[:at] + content[at + len(few) :]


@pytest.fixture(scope="session")
def damaged_values() -> Callable[[Any], st.SearchStrategy[Any]]:
    """Return a function: a strategy of what plain values become when they are damaged."""
    return _damaged_values


@pytest.fixture(scope="session")
def damaged_bytes() -> Callable[[bytes], st.SearchStrategy[bytes]]:
    """Return a function: a strategy of what a file's bytes become when they are damaged."""
    return _damaged_bytes


@pytest.fixture(scope="session")
def refusal() -> Callable[[Callable[[], object]], tuple[type[ObaError], str] | None]:
    """Return a function: the error, and its text, that a call is refused with; other exceptions are not caught."""

    def tell(call: Callable[[], object]) -> tuple[type[ObaError], str] | None:
        try:
            call()
        except ObaError as error:
            return type(error), str(error)
        return None

    return tell


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the damaged files of all examples."""
    return tmp_path_factory.mktemp("damaged")

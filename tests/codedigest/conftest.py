"""Where the tests of this folder find what they share."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oba import codedigest
from oba.codedigest import canonical, code_digest

sys.path.insert(0, str(Path(__file__).parent))

from jobs import all_digests


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return all_digests()


@pytest.fixture
def moved(before, monkeypatch) -> Iterator[Callable[[str, ast.Module], set[str]]]:
    """Return a function that gives a module another tree, in memory, and returns the jobs whose digest moves."""
    as_it_is = codedigest._content

    def swap(module: str, tree: ast.Module) -> set[str]:
        monkeypatch.setattr(codedigest, "_content", lambda m: canonical_digest(tree) if m == module else as_it_is(m))
        return {job for job, digest in all_digests().items() if digest != before[job]}

    yield swap
    code_digest.cache_clear()


def canonical_digest(tree: ast.Module) -> str:
    return hashlib.sha256(canonical(tree).encode()).hexdigest()

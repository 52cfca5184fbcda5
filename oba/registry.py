"""Names of everything that a study can choose, found without importing anything.

An entry is registered by the existence of its file: ``oba_exact.py`` in ``oba/importance/criteria`` is the criterion
``oba-exact`` (a name that is a keyword of Python gets an underscore: ``global_.py``). Adding one is adding one file.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from oba.errors import ConfigError

_PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class _Kind:
    """Where the entries of one kind lie, and which name of their module is the entry."""

    folder: str
    symbol: str


_KINDS = {
    "criterion": _Kind("importance/criteria", "CRITERION"),
    "allocation": _Kind("pruning/allocation", "ALLOCATION"),
    "weight allocation": _Kind("pruning/weights/allocation", "ALLOCATION"),
    "update": _Kind("pruning/update", "UPDATE"),
    "data set": _Kind("data/sources", "open_source"),
    "augmentation": _Kind("data/augmentations", "make"),
    "ingredient": _Kind("training/ingredients", "make"),
}


def names(kind: str) -> list[str]:
    """Return the registered names of one kind, sorted.

    Args:
        kind: ``"criterion"``, ``"allocation"``, ``"weight allocation"``, ``"update"``, ``"data set"``,
            ``"augmentation"`` or, of a training recipe, ``"ingredient"``.

    Returns:
        The names, with dashes.
    """
    files = (_PACKAGE / _KINDS[kind].folder).glob("[!_]*.py")
    return sorted(f.stem.rstrip("_").replace("_", "-") for f in files)


def check(kind: str, name: str, where: str) -> None:
    """Refuse a name that is not registered.

    Args:
        kind: One of the kinds.
        name: What was asked for.
        where: The key that asked, for the message.

    Raises:
        ConfigError: If there is no such name.
    """
    allowed = names(kind)
    if name not in allowed:
        raise ConfigError(unknown(kind, name, where, allowed))


def unknown(kind: str, name: str, where: str, allowed: list[str]) -> str:
    """Return the message for an unknown name, with the nearest allowed one.

    Args:
        kind: What the name should name.
        name: What was given.
        where: The key that gave it.
        allowed: All allowed names.

    Returns:
        One line.
    """
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{where}: unknown {kind} {name!r}{hint}; allowed: {', '.join(allowed)}"


def module_name(kind: str, name: str) -> str:
    """Return the dotted name of the module that implements a registered name, without importing it.

    Args:
        kind: One of the kinds.
        name: A registered name.

    Returns:
        For example ``oba.importance.criteria.oba_exact``.

    Raises:
        ConfigError: If there is no such name.
    """
    check(kind, name, kind)
    folder, stem = _KINDS[kind].folder, name.replace("-", "_")
    if not (_PACKAGE / folder / f"{stem}.py").exists():
        stem += "_"
    return f"oba.{folder.replace('/', '.')}.{stem}"


def load(kind: str, name: str) -> ModuleType:
    """Import the module that implements a registered name.

    Args:
        kind: One of the kinds.
        name: A registered name.

    Returns:
        The module.
    """
    return importlib.import_module(module_name(kind, name))


def entry(kind: str, name: str) -> Callable[..., Any]:
    """Import the entry itself: a class, or a function.

    Args:
        kind: One of the kinds.
        name: A registered name.

    Returns:
        What the module calls ``CRITERION``, ``ALLOCATION``, ``UPDATE``, ``open_source`` or ``make``.
    """
    return getattr(load(kind, name), _KINDS[kind].symbol)

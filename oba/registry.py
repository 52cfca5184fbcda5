"""Names of everything that a study can choose, found without importing torch.

A criterion or a data set is registered by the existence of its file: ``oba_exact.py`` in
``oba/importance/criteria`` is the criterion ``oba-exact``. Adding one is adding one file.
"""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from types import ModuleType

from oba.errors import ConfigError

_PACKAGE = Path(__file__).parent
_FOLDERS = {"criterion": "importance/criteria", "data set": "data/sources"}


def names(kind: str) -> list[str]:
    """Return the registered names of one kind, sorted.

    Args:
        kind: ``"criterion"`` or ``"data set"``.

    Returns:
        The names, with dashes.
    """
    files = (_PACKAGE / _FOLDERS[kind]).glob("[!_]*.py")
    return sorted(f.stem.replace("_", "-") for f in files)


def check(kind: str, name: str, where: str) -> None:
    """Refuse a name that is not registered.

    Args:
        kind: ``"criterion"`` or ``"data set"``.
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


def load(kind: str, name: str) -> ModuleType:
    """Import the module that implements a registered name.

    Args:
        kind: ``"criterion"`` or ``"data set"``.
        name: A registered name.

    Returns:
        The module.

    Raises:
        ConfigError: If there is no such name.
    """
    check(kind, name, kind)
    folder = _FOLDERS[kind].replace("/", ".")
    return importlib.import_module(f"oba.{folder}.{name.replace('-', '_')}")

"""Digests of the code that a stage's result depends on, without importing it.

A stage's digest covers the syntax trees (docstrings and comments left out) of its own module and of all
``oba`` modules reachable from it by imports, plus the criterion, model and data set that were chosen,
but not their siblings. What cannot change a result is left out: registries, configuration, file and
path handling, tracking, report and command line.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parent
_NEUTRAL = (
    "oba.config",
    "oba.sections",
    "oba.study",
    "oba.layout",
    "oba.registry",
    "oba.errors",
    "oba.files",
    "oba.codedigest",
    "oba.cli",
    "oba.stages.job",
    "oba.tracking",
    "oba.report",
    "oba.models.names",
    "oba.training.progress",
)


def stage_code(stage: str, roots: Sequence[str] = ()) -> str:
    """Return the digest of the code that a job's result depends on.

    Args:
        stage: Name of the stage's module.
        roots: Further modules that the study chooses.

    Returns:
        16 hexadecimal digits.
    """
    return code_digest(f"oba.stages.{stage}", *roots, without=("oba.pruning",) if stage == "dense" else ())


def code_digest(*roots: str, without: tuple[str, ...] = ()) -> str:
    """Return the digest of modules and of everything they import from ``oba``.

    Args:
        roots: Dotted names of modules, with those of the chosen criterion, family or data set, which are
            imported by name at run time.
        without: Packages that cannot change the results of these roots.

    Returns:
        16 hexadecimal digits, the same when only comments, docstrings or formatting change.
    """
    digest = hashlib.sha256()
    for module in reachable(*roots, without=without):
        digest.update(module.encode())
        digest.update(_tree(module).encode())
    return digest.hexdigest()[:16]


def reachable(*roots: str, without: tuple[str, ...] = ()) -> list[str]:
    """Return the modules that :func:`code_digest` covers.

    Args:
        roots: Dotted names of modules.
        without: Packages that are left out.

    Returns:
        Dotted names, sorted.
    """
    left_out = (*_NEUTRAL, *without)
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        waiting += [m for m in _imports(module) if not _within(m, left_out)]
    return sorted(seen)


def _within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


def _file(module: str) -> Path | None:
    path = _PACKAGE.parent.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _parsed(module: str) -> ast.Module:
    path = _file(module)
    if path is None:
        raise ModuleNotFoundError(f"no module {module!r} in {_PACKAGE}")
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _imports(module: str) -> frozenset[str]:
    """Return the ``oba`` modules that a module imports, at its top or inside functions."""
    found: set[str] = set()
    for node in ast.walk(_parsed(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {_origin(node.module, alias.name) for alias in node.names}
    return frozenset(m for m in found if m.startswith("oba.") and not _is_package(m))


def _origin(module: str, name: str) -> str:
    """Return the module that a name comes from: packages only pass names on, and are followed name by name."""
    if _file(f"{module}.{name}"):
        return f"{module}.{name}"
    if module.startswith("oba") and _is_package(module):
        for node in ast.walk(_parsed(module)):
            if isinstance(node, ast.ImportFrom) and node.module and name in {alias.name for alias in node.names}:
                return _origin(node.module, name)
    return module


def _is_package(module: str) -> bool:
    path = _file(module)
    return path is not None and path.name == "__init__.py"


@cache
def _tree(module: str) -> str:
    """Return a module's syntax tree as text, without docstrings and positions."""
    tree = ast.parse(ast.unparse(_parsed(module)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return ast.dump(tree)

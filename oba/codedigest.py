"""Digests of the code that a stage's result depends on, without importing it.

A digest covers every ``oba`` module that a stage and its chosen parts reach by imports, and the versions of the
libraries that these modules import. What is left out is named in :data:`NEUTRAL` and :data:`NEUTRAL_LIBRARIES`,
each with the reason; ``tests/codedigest`` checks the reasons and mutates every function.

Only the standard library is imported, here and by :mod:`oba.cache`, and no text depends on the interpreter's version: a
stage that ran under one Python counts as done under another.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from oba.cache import Cache

NEUTRAL = {
    "oba.config": "settings: their values are part of a job's parameters",
    "oba.sections": "settings, cut to what a stage sees",
    "oba.datasets": "settings of images",
    "oba.machine": "settings of what stages run on",
    "oba.recipes": "settings of training",
    "oba.section": "reads settings, whose values are part of a job's parameters",
    "oba.errors": "exceptions: a stage that raises has no result",
    "oba.models.names": "refuses names that no net has",
    "oba.records": "checks what stages write and read: reading is done by oba.files, and no value is changed",
    "oba.registry": "finds modules by name: the chosen ones are roots of the digest",
    "oba.stages.job": "locks, records and reports a job",
    "oba.training.progress": "shows a training",
}
"""Modules that covered modules import and that cannot change a result, each with the reason. They hand over
exceptions, settings, names and paths, never a number, an array or the content of a file."""

NEUTRAL_LIBRARIES = {
    "filelock": "waits",
    "huggingface_hub": "downloads files, whose content jobs digest",
    "pydantic": "checks values",
    "rich": "shows progress",
    "safetensors": "stores tensors byte for byte",
    "tqdm": "shows progress",
}
"""Libraries that covered modules import and whose version cannot change a result; all others count."""

_DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
_PACKAGE = Path(__file__).parent
_ROWS = ("oba.layout",)
_OWN_ROOTS = {"collect": _ROWS, "report": _ROWS}
_UNUSED_FIELDS = {"ctx", "kind", "type_comment", "type_ignores"}


def stage_code(stage: str, roots: Sequence[str] = ()) -> str:
    """Return the digest of the code that a job's result depends on.

    Args:
        stage: The stage's name: its module in ``oba.stages``.
        roots: Dotted names of the modules that the study chose by name: the source of the images, the family of the
            net, the parts of the method.

    Returns:
        16 hexadecimal digits.
    """
    # The report's rows are laid out in oba.layout; for every other stage that module only names files.
    return code_digest(f"oba.stages.{stage}", *_OWN_ROOTS.get(stage, ()), *roots)


@cache
def code_digest(*roots: str) -> str:
    """Return the digest of modules, of everything they import from ``oba``, and of the libraries' versions.

    Args:
        roots: Dotted names of modules; these count even where :data:`NEUTRAL` names them.

    Returns:
        16 hexadecimal digits, the same when only comments, docstrings, formatting or the Python version change.
    """
    digest = hashlib.sha256()
    for module in reachable(*roots):
        digest.update(f"{module} {_content(module)}\n".encode())
    for library, installed in libraries(*roots).items():
        digest.update(f"{library} {installed}\n".encode())
    _cache().save()
    return digest.hexdigest()[:16]


@cache
def reachable(*roots: str) -> tuple[str, ...]:
    """Return the modules that :func:`code_digest` covers.

    Args:
        roots: Dotted names of modules.

    Returns:
        Dotted names, sorted. Packages are not among them: they only pass names on.
    """
    left_out = tuple(f"{name}." for name in NEUTRAL)
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += [m for m in _imports(module) if _is_ours(m) and not f"{m}.".startswith(left_out)]
    return tuple(sorted(m for m in seen if not _is_package(m)))


def libraries(*roots: str) -> dict[str, str]:
    """Return the versions that :func:`code_digest` covers.

    Args:
        roots: Dotted names of modules.

    Returns:
        The installed version by the library's import name, sorted; ``absent`` for what is not installed.
    """
    imported = {m.partition(".")[0] for module in reachable(*roots) for m in _imports(module)}
    return {name: _version(name) for name in sorted(imported - {"oba", *NEUTRAL_LIBRARIES, *sys.stdlib_module_names})}


def canonical(node: object) -> str:
    """Return a syntax tree as text that all supported Python versions agree on.

    Positions, bare strings (docstrings of all kinds), imports for type checkers and empty fields are left out:
    Python versions differ in the fields they know, and what is new is empty where the old syntax is used.

    Args:
        node: A tree from :mod:`ast`, or a list or value inside one.

    Returns:
        The text; equal for trees that run alike.
    """
    if isinstance(node, ast.JoinedStr):
        return f"JoinedStr({''.join(_pieces(node))})"
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if name not in _UNUSED_FIELDS]
        text = ",".join(f"{name}={canonical(value)}" for name, value in fields if value is not None and value != [])
        return f"{type(node).__name__}({text})"
    if isinstance(node, list):
        return f"[{','.join(canonical(child) for child in node if not _is_inert(child))}]"
    return ascii(node)  # repr() depends on the interpreter's edition of Unicode


def _pieces(node: ast.JoinedStr) -> Iterator[str]:
    """Return an f-string's parts, neighbouring and empty texts joined: Python versions cut them differently."""
    text = ""
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value)
        else:
            yield ascii(text) + canonical(part)
            text = ""
    yield ascii(text)


def _is_inert(node: object) -> bool:
    """Tell whether a statement does nothing when it runs."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" and not node.orelse
    return False


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Walk through what runs."""
    if not _is_inert(node):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from _running(child)


def _is_ours(module: str) -> bool:
    return f"{module}.".startswith("oba.")


@cache
def _file(module: str) -> Path | None:
    path = _PACKAGE.parent.joinpath(*module.split("."))
    candidates = (path.with_name(f"{path.name}.py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _is_package(module: str) -> bool:
    path = _file(module)
    return path is not None and path.name == "__init__.py"


@cache
def _cache() -> Cache:
    """What is known of files by their content: parsing a hundred of them takes longer than all else here."""
    return Cache(f"code-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]}-{sys.version_info.minor}")


@cache
def _facts(module: str) -> tuple[str, list[tuple[str, list[str]]]]:
    """Return the digest of a module's canonical text, and what it imports: modules, with names from inside of them."""
    path = _file(module)
    if path is None:
        raise ModuleNotFoundError(f"no module {module!r} in {_PACKAGE}")
    text = path.read_bytes()

    def read_off() -> tuple[str, list[tuple[str, list[str]]]]:
        tree = ast.parse(text)
        return hashlib.sha256(canonical(tree).encode()).hexdigest(), _named_imports(tree, whole=_is_package(module))

    return _cache().value(f"{hashlib.sha256(text).hexdigest()} {path.name == '__init__.py'}", read_off)


def _named_imports(tree: ast.Module, whole: bool) -> list[tuple[str, list[str]]]:
    """Return what a tree imports at its top or inside functions; if whole, for type checkers, too."""
    found: list[tuple[str, list[str]]] = []
    for node in (ast.walk if whole else _running)(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, [alias.name for alias in node.names]))
    return found


def _content(module: str) -> str:
    return _facts(module)[0]


@cache
def _imports(module: str) -> frozenset[str]:
    """Return the modules that a module imports at its top or inside functions; of a package, all it passes on."""
    found: set[str] = set()
    for origin, names in _facts(module)[1]:
        found |= {_origin(origin, name) for name in names} if names else {origin}
    return frozenset(found)


def _origin(module: str, name: str) -> str:
    """Return the module that a name comes from: packages only pass names on, and are followed name by name."""
    if not _is_ours(module):
        return module
    if _file(f"{module}.{name}"):
        return f"{module}.{name}"
    if _is_package(module):
        for origin, names in _facts(module)[1]:
            if name in names:
                return _origin(origin, name)
    return module


@cache
def _version(library: str) -> str:
    try:
        return version(_DISTRIBUTIONS.get(library, library))
    except PackageNotFoundError:
        return "absent"

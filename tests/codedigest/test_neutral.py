"""Why neutral modules are neutral: what crosses into covered code is never a number, an array or a file's content."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType

import pytest
from jobs import PACKAGES, SCIENCE, closure, home, imported, parsed

from oba import codedigest
from oba.codedigest import NEUTRAL

CARRIED = {
    "None",
    "str",
    "Path",
    "Self",
    "list[str]",
    "dict[str, str]",
    "ModuleType",
    "Callable[..., Any]",
    "Coordinates",
    "Layout",
    "Study",
    "FileError | None",
}
"""What a neutral function may return: errors end a job; names and paths are its coordinates, inputs and roots."""
CROSSING = sorted({
    (home(module, name) if name else module, name)
    for job in SCIENCE
    for user in closure(job)
    for module, name in imported(user)
    if (home(module, name) if name else module) in NEUTRAL
})
"""Everything that covered modules import from neutral ones."""


def offences(value: object, name: str) -> list[str]:
    """Return what a neutral module's value could hand over that changes a result."""
    if isinstance(value, FunctionType):
        returned = str(value.__annotations__.get("return"))
        return [] if returned in CARRIED or hands_back(value) else [f"{name} returns {returned}"]
    if isinstance(value, type):
        return [] if issubclass(value, BaseException) else list(class_offences(value))
    constant = isinstance(value, str | Path) or (isinstance(value, tuple) and all(isinstance(v, str) for v in value))
    return [] if constant else [f"{name} is a {type(value).__name__}"]


def class_offences(cls: type) -> Iterator[str]:
    decorators = getattr(cls, "__pydantic_decorators__", None)
    validators = {*decorators.model_validators, *decorators.field_validators} if decorators else set()
    for owner in cls.__mro__:
        for name, member in vars(owner).items() if owner.__module__.startswith("oba.") else ():
            member = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
            written = (
                isinstance(member, FunctionType)
                and member.__code__.co_filename == sys.modules[owner.__module__].__file__
            )
            if written and name not in validators and not name.startswith("_"):
                yield from offences(member, f"{cls.__name__}.{name}")
            if type(member) in {int, float}:
                yield f"{cls.__name__}.{name} is a number"
    if decorators:
        yield from (f"{cls.__name__}.{name} is private" for name in cls.__private_attributes__)  # pyright: ignore
        hidden = [n for n, field in cls.model_fields.items() if field.exclude]  # pyright: ignore
        yield from (f"{cls.__name__}.{name} is not in the parameters" for name in hidden)


def hands_back(function: FunctionType) -> bool:
    """Tell whether a method does no more than return what its object was given."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    returned = [ast.unparse(n.value) for n in ast.walk(tree) if isinstance(n, ast.Return) and n.value]
    return bool(returned) and all(re.fullmatch(r"self(\.\w+)+", expression) for expression in returned)


@pytest.mark.parametrize(("module", "name"), CROSSING)
def test_neutral_modules_hand_over_no_number_array_or_content(module, name):
    origin = import_module(module)
    names = [name] if name else [n for n, v in vars(origin).items() if getattr(v, "__module__", "") == module]
    found = [offence for n in names for offence in offences(getattr(origin, n), n)]
    assert not found


def test_no_neutral_module_is_listed_in_vain():
    assert {module for module, _ in CROSSING} == set(NEUTRAL)


@pytest.mark.parametrize("module", NEUTRAL)
def test_neutral_modules_import_nothing_that_computes_arrays(module):
    arrays = {"torch", "numpy", "PIL", "sklearn", "safetensors", "torch_pruning"}
    assert not arrays & {name.partition(".")[0] for name in codedigest._imports(module)}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("oba.models.parse", "parse_own"),
        ("oba.files", "read_json"),
        ("oba.files", "read_tensors"),
        ("oba.seeds", "derive_seed"),
        ("oba.pruning.cost", "CostModel"),
        ("oba.pruning.cost", "LayerCost"),
    ],
)
def test_what_changes_results_would_be_refused_as_neutral(module, name):
    assert offences(getattr(import_module(module), name), name)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_only_pass_names_on(package):
    """Packages are in no digest: what they hand over is what the digest follows, and they do nothing else."""
    module = import_module(package)
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if not name.startswith("__"):
            assert value.__module__ == codedigest._origin(package, name), name
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.FunctionDef, ast.Expr, ast.If)
    for node in parsed(package).body:
        assert isinstance(node, allowed), ast.unparse(node)
        assert not isinstance(node, ast.FunctionDef) or node.name == "__getattr__"
        assert not isinstance(node, ast.Expr) or isinstance(node.value, ast.Constant)
        assert not isinstance(node, ast.If) or ast.unparse(node.test) == "TYPE_CHECKING"

"""Nothing in the project unpickles, or runs, what a file says; seen in the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "oba").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])
FORBIDDEN = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
"""Modules whose loading runs code."""
LOADERS = {"torch.load", "torch.hub.load", "torch.jit.load", "np.load", "numpy.load", "pd.read_pickle", "yaml.load"}
"""Functions that run code unless they are told not to."""
SHELLS = {"os.system", "os.popen", "eval", "exec", "compile", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call with the dotted name that it is written with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(given.value) for given in call.keywords if given.arg == name), None)


def is_safe(name: str, call: ast.Call) -> bool:
    """Tell whether a loading function is told to read plain data alone."""
    if name in {"np.load", "numpy.load"}:  # without the keyword, numpy refuses pickles
        return keyword(call, "allow_pickle") in {None, "False"} and len(call.args) == 1
    if name == "yaml.load":
        return ast.unparse(call.args[1]) == "_Loader" if len(call.args) == 2 else False
    return name == "torch.load" and keyword(call, "weights_only") == "True"


def mistakes(source: str) -> list[str]:
    """Return what in a source could run what a file says."""
    tree = ast.parse(source)
    found = [name for name, call in calls(tree) if name in SHELLS or (name in LOADERS and not is_safe(name, call))]
    found += [f"{name} with a shell" for name, call in calls(tree) if keyword(call, "shell") not in {None, "False"}]
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [module for module in modules if module.partition(".")[0] in FORBIDDEN]
        if isinstance(node, ast.ImportFrom) and node.module in {"torch", "numpy", "yaml", "os"}:
            renamed = {f"{node.module}.{alias.name}" for alias in node.names}
            found += sorted(renamed & (LOADERS | SHELLS))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_of_strangers_is_run(path: Path) -> None:
    assert mistakes(path.read_text()) == []


def test_the_loader_of_yaml_is_the_safe_one() -> None:
    from oba import plain

    assert plain._Loader.__bases__ == (plain.yaml.SafeLoader,)
    users = [
        path.name for path in SOURCES if any(name == "yaml.load" for name, _ in calls(ast.parse(path.read_text())))
    ]
    assert users == ["plain.py"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("torch.load(path)", ["torch.load"]),
        ("torch.load(path, weights_only=False)", ["torch.load"]),
        ("torch.load(path, weights_only=True)", []),
        ("np.load(path, allow_pickle=True)", ["np.load"]),
        ("np.load(path, 'r', True)", ["np.load"]),
        ("np.load(path, mmap_mode='r')", []),
        ("yaml.load(text, yaml.Loader)", ["yaml.load"]),
        ("yaml.load(text, _Loader)", []),
        ("import pickle", ["pickle"]),
        ("from joblib import load", ["joblib"]),
        ("from torch import load", ["torch.load"]),
        ("subprocess.run(text, shell=True)", ["subprocess.run with a shell"]),
        ("os.system(text)", ["os.system"]),
        ("eval(text)", ["eval"]),
    ],
)
def test_such_calls_would_be_seen(source: str, found: list[str]) -> None:
    assert mistakes(source) == found

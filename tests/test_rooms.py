"""The house: imports go downwards only, and each heavy library has one door."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "oba"
FLOORS = [
    {"__main__"},
    {"cli"},
    {"commands"},
    {"stages", "bench", "export", "validate", "compare", "analysis", "status"},
    {"report", "tracking", "devices"},
    {"training"},
    {"pruning"},
    {"importance"},
    {"curvature"},
    {"gaps", "recover"},
    {"up_to_date"},
    {"jobs"},
    {"dag"},
    {"sections", "chosen", "resolving", "places"},
    {"study", "schema", "layout", "codedigest", "locks"},
    {"options", "mistakes", "defaults", "models", "data", "made", "snapshots"},
    {"structures", "config", "plain", "registry", "files", "modes", "provenance"},
    {"datasets", "recipes", "slurm", "machine", "ranks", "seeds", "signals"},
    {"section", "errors", "records", "identity", "addresses", "imports", "cache"},
]
"""Rooms from top to bottom; those of one floor know nothing of each other."""
HEIGHT = {room: len(FLOORS) - floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name != "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Return all modules that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_room_is_on_a_floor():
    assert {room_of(path) for path in MODULES} == HEIGHT.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path):
    room = room_of(path)
    for module in imports_of(path):
        package, _, rest = module.partition(".")
        other = rest.partition(".")[0]
        if package == "oba" and other != room:
            assert HEIGHT[other] < HEIGHT[room], f"{path} imports {module}, which is not below it"


@pytest.mark.parametrize(
    ("library", "door"),
    [
        ("mlflow", "tracking"),
        ("torch_pruning", "pruning"),
        ("matplotlib", "report"),
        ("sklearn", "data"),
        ("onnxruntime", "export"),
    ],
)
def test_each_heavy_library_has_one_door(library, door):
    users = {room_of(path) for path in MODULES if any(m.split(".")[0] == library for m in imports_of(path))}
    assert users == {door}


def test_torch_pruning_is_imported_by_one_module():
    users = {path.name for path in MODULES if any(m.startswith("torch_pruning") for m in imports_of(path))}
    assert users == {"dependencies.py"}


def test_curvature_knows_nothing_of_pruning():
    for path in (PACKAGE / "curvature").rglob("*.py"):
        assert not {m for m in imports_of(path) if m.startswith(("oba.pruning", "oba.structures", "oba.importance"))}


def test_report_reads_files_and_never_a_model():
    for path in (PACKAGE / "report").rglob("*.py"):
        rooms = {m.split(".")[1] for m in imports_of(path) if m.startswith("oba.")}
        assert rooms <= {"report", "records", "files", "errors", "layout", "structures", "addresses"}, path


def test_stages_stay_thin():
    for path in (PACKAGE / "stages").glob("*.py"):
        if path.stem not in {"job", "nets", "finished", "repair", "__init__"}:
            assert len(path.read_text().splitlines()) <= 130, path

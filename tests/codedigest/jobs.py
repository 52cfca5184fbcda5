"""Jobs whose digests the tests compare, and what they import, found without :mod:`oba.codedigest`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from oba.codedigest import NEUTRAL, code_digest, stage_code

ROOT = Path(__file__).parents[2]
NAMES = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted((ROOT / "oba").rglob("*.py"))}
MODULES = {name: path for path, name in NAMES.items() if path.name != "__init__.py"}
PACKAGES = {name.removesuffix(".__init__"): path for path, name in NAMES.items() if path.name == "__init__.py"}


def modules_in(package: str) -> tuple[str, ...]:
    return tuple(m for m in MODULES if m.rpartition(".")[0] == package and not m.rpartition(".")[2].startswith("_"))


RESNET, TIMM = ("oba.models.families.resnet",), ("oba.models.families.timm",)
GLOBAL = ("oba.pruning.allocation.global_", "oba.pruning.update.norm")
PARTS = ("oba.importance.criteria", "oba.pruning.allocation", "oba.pruning.weights.allocation", "oba.pruning.update")
EXTRAS = (*modules_in("oba.training.ingredients"), *modules_in("oba.data.augmentations"))
JOBS = {
    "prepare": ("prepare", ("oba.data.sources.digits",)),
    "prepare any": ("prepare", modules_in("oba.data.sources")),
    "split": ("split", ()),
    "trace": ("trace", RESNET),
    "dense": ("dense", RESNET),
    "dense timm": ("dense", TIMM),
    "dense any": ("dense", modules_in("oba.models.families")),
    "prune oba": ("prune", (*RESNET, "oba.importance.criteria.oba", *GLOBAL)),
    "prune random": ("prune", (*RESNET, "oba.importance.criteria.random", *GLOBAL)),
    "prune any": ("prune", (*RESNET, *(m for kind in PARTS for m in modules_in(kind)))),
    "finetune": ("finetune", RESNET),
    "finetune any": ("finetune", (*RESNET, *EXTRAS)),
    "scratch": ("scratch", RESNET),
    "evaluate": ("evaluate", RESNET),
    "collect": ("collect", ()),
    "report": ("report", ()),
}
SCIENCE = set(JOBS) - {"collect", "report"}
NETS = SCIENCE - {"prepare", "prepare any", "split"}


def all_digests() -> dict[str, str]:
    code_digest.cache_clear()
    return {job: stage_code(stage, roots) for job, (stage, roots) in JOBS.items()}


def parsed(module: str) -> ast.Module:
    return ast.parse((MODULES.get(module) or PACKAGES[module]).read_text())


def imported(module: str) -> Iterator[tuple[str, str]]:
    """Yield the modules of ``oba`` and the names that a module imports when it runs; ``""`` for a whole module."""

    def walk(node: ast.AST) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, "") if inner in MODULES else (node.module or "", alias.name)
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    yield from ((m, name) for m, name in walk(parsed(module)) if m.partition(".")[0] == "oba")


def home(module: str, name: str) -> str:
    """Return the module that an import runs, asked of the imported objects themselves."""
    return getattr(import_module(module), name).__module__ if module in PACKAGES else module


def closure(job: str) -> set[str]:
    """Return the modules that a job covers, found without :mod:`oba.codedigest`."""
    stage, roots = JOBS[job]
    waiting = [f"oba.stages.{stage}", *roots] + ["oba.layout"] * (job not in SCIENCE)
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            found = {home(*pair) for pair in imported(module)}
            waiting += found - NEUTRAL.keys()
    return seen

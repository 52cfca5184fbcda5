"""A stage's digest moves with all code that can change its result, and with nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from jobs import JOBS, MODULES, NETS, SCIENCE, closure, imported, parsed

from oba.codedigest import code_digest, reachable

PRUNED = {"prune oba", "prune random", "prune any"}
TRAINED = {"dense", "dense timm", "dense any", "finetune", "finetune any", "scratch"}
IMAGES = TRAINED | PRUNED | {"evaluate"}


def added_to(module: str) -> ast.Module:
    """Return a module's tree with one more statement."""
    tree = parsed(module)
    tree.body.append(ast.parse("ADDED = 1").body[0])
    return tree


Function = ast.FunctionDef | ast.AsyncFunctionDef


@contextmanager
def with_statement(function: Function) -> Iterator[bool]:
    function.body.insert(0, ast.parse("mutated = 1").body[0])
    yield True
    del function.body[0]


@contextmanager
def with_other_numbers(function: Function) -> Iterator[bool]:
    numbers = [n for n in ast.walk(function) if isinstance(n, ast.Constant) and type(n.value) in {int, float}]
    values = [number.value for number in numbers]
    for number in numbers:
        number.value *= 2  # pyright: ignore[reportOperatorIssue]
        number.value += 1  # pyright: ignore[reportOperatorIssue]
    yield bool(numbers)
    for number, value in zip(numbers, values, strict=True):
        number.value = value


@pytest.mark.parametrize("mutate", [with_statement, with_other_numbers])
def test_every_function_moves_the_stages_that_reach_it_and_no_other(moved, mutate):
    """The list of neutral modules is all there is to trust; the tests below check it."""
    reach = {job: closure(job) for job in JOBS}
    mutated = 0
    for module in MODULES:
        tree = parsed(module)
        assert moved(module, tree) == set()
        expected = {job for job in JOBS if module in reach[job]}
        for function in [node for node in ast.walk(tree) if isinstance(node, Function)]:
            with mutate(function) as changed:
                if changed:
                    mutated += 1
                    assert moved(module, tree) == expected, f"{module}.{function.name}"
    assert mutated > 200


@pytest.mark.parametrize(
    ("module", "jobs"),
    [
        ("oba.models.parse", NETS | {"collect", "report"}),
        ("oba.models.stored", NETS),
        ("oba.files", SCIENCE | {"collect", "report"}),
        ("oba.pruning.greedy", PRUNED),
        ("oba.pruning.dependencies", {"trace"}),
        ("oba.importance.criteria.oba", {"prune oba", "prune any"}),
        ("oba.pruning.allocation.uniform", {"prune any"}),
        ("oba.data.sources.digits", {"prepare", "prepare any"}),
        ("oba.data.splits", {"split"}),
        ("oba.data.calibration", IMAGES),
        ("oba.stages.start", IMAGES),
        ("oba.stages.nets", TRAINED),
        ("oba.training.loop", TRAINED),
        ("oba.training.latency", {"evaluate"}),
        ("oba.training.ingredients.mixing", {"finetune any"}),
        ("oba.data.augmentations.policy", {"finetune any"}),
        ("oba.training.evaluation", IMAGES),
        ("oba.pruning.levels", PRUNED),
        ("oba.pruning.replay", {"trace", "finetune", "finetune any", "scratch", "evaluate"} | PRUNED),
        ("oba.options", PRUNED),
        ("oba.models.families.resnet", NETS - {"dense timm"}),
        ("oba.report.collect", {"collect", "report"}),
        ("oba.report.tradeoff", {"report"}),
        ("oba.layout", {"collect", "report"}),
        ("oba.config", set()),
        ("oba.recipes", set()),
        ("oba.datasets", set()),
        ("oba.machine", set()),
        ("oba.section", set()),
        ("oba.tracking.run", set()),
        ("oba.models.names", set()),
        ("oba.provenance", set()),
        ("oba.dag", {"collect", "report"}),
        ("oba.study", set()),
        ("oba.training.slots", set()),
        ("oba.cli", set()),
    ],
)
def test_what_a_change_of_a_module_reruns(moved, module, jobs):
    assert moved(module, added_to(module)) == jobs


def test_pruning_code_never_reaches_the_dense_stage(moved):
    for module in MODULES:
        if module.startswith("oba.pruning."):
            assert not {"dense any", "dense timm", "prepare any", "split"} & moved(module, added_to(module)), module


def test_the_dense_stage_imports_nothing_of_pruning():
    """An edit of pruning code must never train dense nets again."""
    used = {module for user in closure("dense any") for module, _ in imported(user)}
    assert not {module for module in used if module.startswith(("oba.pruning", "oba.importance", "oba.curvature"))}


def test_packages_pass_on_the_name_that_is_imported_and_no_other():
    assert "oba.models.build" in reachable("oba.stages.trace")
    assert "oba.models.weights" not in reachable("oba.stages.trace")


def test_a_package_that_is_imported_as_a_whole_stands_for_all_it_passes_on():
    assert {"oba.models.build", "oba.models.weights"} <= set(reachable("oba.models"))
    assert "oba.models" not in reachable("oba.models")


def test_an_unknown_module_is_refused():
    with pytest.raises(ModuleNotFoundError, match=r"no module 'oba\.nothing'"):
        code_digest("oba.nothing")

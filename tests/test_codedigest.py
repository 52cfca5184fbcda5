"""A stage's digest moves with all code and libraries that can change its result, and with nothing else."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from types import FunctionType

import pytest

from oba import codedigest
from oba.codedigest import NEUTRAL, NEUTRAL_LIBRARIES, canonical, code_digest, libraries, reachable, stage_code

ROOT = Path(__file__).parents[1]
NAMES = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted((ROOT / "oba").rglob("*.py"))}
MODULES = {name: path for path, name in NAMES.items() if path.name != "__init__.py"}
PACKAGES = {name.removesuffix(".__init__"): path for path, name in NAMES.items() if path.name == "__init__.py"}


def modules_in(package: str) -> tuple[str, ...]:
    return tuple(m for m in MODULES if m.rpartition(".")[0] == package and not m.rpartition(".")[2].startswith("_"))


RESNET, TIMM = ("oba.models.families.resnet",), ("oba.models.families.timm",)
JOBS = {
    "prepare": ("prepare", ("oba.data.sources.digits",)),
    "prepare any": ("prepare", modules_in("oba.data.sources")),
    "split": ("split", ()),
    "structures": ("structures", RESNET),
    "check": ("check", RESNET),
    "dense": ("dense", RESNET),
    "dense timm": ("dense", TIMM),
    "dense any": ("dense", modules_in("oba.models.families")),
    "prune oba": ("prune", (*RESNET, "oba.importance.criteria.oba")),
    "prune random": ("prune", (*RESNET, "oba.importance.criteria.random")),
    "prune any": ("prune", (*RESNET, *modules_in("oba.importance.criteria"))),
    "finetune": ("finetune", RESNET),
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


def parsed(module: str) -> ast.Module:
    return ast.parse((MODULES.get(module) or PACKAGES[module]).read_text())


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
    left_out = {m for m in MODULES if m.startswith("oba.pruning.")} if stage == "dense" else set()
    waiting = [f"oba.stages.{stage}", *roots] + ["oba.layout"] * (job not in SCIENCE)
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            found = {home(*pair) for pair in imported(module)}
            waiting += found - NEUTRAL.keys() - left_out
    return seen


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
        ("oba.models.parse", NETS),
        ("oba.models.stored", NETS - {"check"}),
        ("oba.files", SCIENCE | {"collect", "report"}),
        ("oba.pruning.select", {"check", "prune oba", "prune random", "prune any"}),
        ("oba.pruning.dependencies", {"structures"}),
        ("oba.importance.criteria.oba", {"prune oba", "prune any"}),
        ("oba.data.sources.digits", {"prepare", "prepare any"}),
        ("oba.data.splits", {"split"}),
        ("oba.models.families.resnet", NETS - {"dense timm"}),
        ("oba.report.collect", {"collect", "report"}),
        ("oba.report.tradeoff", {"report"}),
        ("oba.layout", {"collect", "report"}),
        ("oba.config", set()),
        ("oba.tracking.run", set()),
        ("oba.models.names", set()),
        ("oba.provenance", set()),
        ("oba.cli", set()),
    ],
)
def test_what_a_change_of_a_module_reruns(moved, module, jobs):
    assert moved(module, added_to(module)) == jobs


def test_pruning_code_never_reaches_the_dense_stage(moved):
    for module in MODULES:
        if module.startswith("oba.pruning."):
            assert not {"dense any", "dense timm", "prepare any", "split"} & moved(module, added_to(module)), module


def test_what_dense_uses_of_pruning_makes_no_weight():
    """It counts MACs, for people to see, and names the plan that removes nothing."""
    used = {
        (module, name)
        for user in closure("dense any")
        for module, name in imported(user)
        if module.startswith("oba.pruning")
    }
    assert {name for _, name in used} == {"Plan", "measure"}


# Why neutral modules are neutral: what crosses into covered code is never a number, an array or a file's content.

CARRIED = {"None", "str", "Path", "Self", "list[str]", "dict[str, str]", "ModuleType", "Cell", "Layout", "Study"}
"""What a neutral function may return: names and paths are parts of the job's coordinates, inputs and roots."""
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
        return [] if issubclass(value, Exception) else list(class_offences(value))
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
        ("oba.training.device", "derive_seed"),
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


# Libraries


@pytest.mark.parametrize(
    ("job", "counted"),
    [
        ("prepare", {"PIL", "numpy", "sklearn"}),
        ("split", {"PIL", "numpy"}),
        ("structures", {"torch", "torch_pruning"}),
        ("dense", {"PIL", "numpy", "torch"}),
        ("dense timm", {"PIL", "numpy", "torch", "timm"}),
        ("dense any", {"PIL", "numpy", "torch", "timm", "torchvision"}),
        ("report", {"matplotlib", "numpy", "pandas"}),
    ],
)
def test_libraries_that_compute_are_covered(job, counted):
    stage, roots = JOBS[job]
    without = ("oba.pruning",) if stage == "dense" else ()
    assert set(libraries(f"oba.stages.{stage}", *roots, without=without)) == counted


@pytest.mark.parametrize(
    ("library", "jobs"),
    [
        ("torch", NETS),
        ("numpy", set(JOBS) - {"structures", "collect"}),
        ("pillow", set(JOBS) - {"structures", "check", "collect", "report"}),
        ("scikit-learn", {"prepare", "prepare any"}),
        ("torch_pruning", {"structures"}),
        ("timm", {"dense timm", "dense any"}),
        ("torchvision", {"prepare any", "dense any"}),
        ("pandas", {"collect", "report"}),
        *((name, set()) for name in ("snakemake", "mlflow", "rich", "tqdm", "pydantic", "safetensors", "filelock")),
    ],
)
def test_another_version_of_a_library_reruns_what_computes_with_it(before, monkeypatch, library, jobs):
    installed = codedigest.version
    monkeypatch.setattr(codedigest, "version", lambda name: "0.0" if name == library else installed(name))
    codedigest._version.cache_clear()
    after = all_digests()
    codedigest._version.cache_clear()
    code_digest.cache_clear()
    assert {job for job in JOBS if after[job] != before[job]} == jobs


def test_libraries_that_are_not_installed_are_absent(monkeypatch):
    def missing(name: str) -> str:
        raise codedigest.PackageNotFoundError(name)

    monkeypatch.setattr(codedigest, "version", missing)
    codedigest._version.cache_clear()
    assert libraries("oba.models.families.timm") == {"timm": "absent", "torch": "absent"}
    codedigest._version.cache_clear()


def test_every_library_is_found_under_its_distribution():
    distributions = packages_distributions()
    covered = {library for stage, roots in JOBS.values() for library in libraries(f"oba.stages.{stage}", *roots)}
    for library in covered:
        given = codedigest._DISTRIBUTIONS.get(library, library)
        assert given.replace("_", "-") in {d.lower() for d in distributions[library]}
    assert NEUTRAL_LIBRARIES.keys() <= distributions.keys()


# One text for all that runs alike


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('"""Doc."""\nx = 1', "x = 1"),
        ('x = 1\n"""About x."""', "x = 1\n'''About x, otherwise.'''"),
        ('class A:\n    x: int = 1\n    """About x."""', "class A:\n    x: int = 1"),
        ('def f():\n    """Doc."""', 'def f():\n    """Another."""'),
        ("if TYPE_CHECKING:\n    from torch import Tensor\nx = 1", "x = 1"),
        ("x = (1)  # comment", "x=1"),
        ("x = 1_000", "x = 1000"),
        ("x = u'a' 'b'", 'x = "ab"'),
        ("x = f'a{b}' 'c'", 'x = f"a" f"{b}c"'),
        ("x = f'''{a['b']}'''", "x = f\"{a['b']}\""),
    ],
)
def test_what_runs_alike_has_one_text(one, other):
    assert canonical(ast.parse(one)) == canonical(ast.parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = '1'", "x = 1"),
        ("f('text')", "f()"),
        ("def f():\n    return None", "def f():\n    return"),
        ("f = lambda a, *, b, c=1: a", "f = lambda a, *, b=1, c: a"),
        ("x = {**a, 'b': c}", "x = {a: 'b', **c}"),
        ("x = f'{a}{b}'", "x = f'{b}{a}'"),
        ("x = f'{a!r}'", "x = f'{a!s}'"),
        ("x = f'{a:.2f}'", "x = f'{a:.3f}'"),
        ("x = f'a{b}'", "x = f'{b}a'"),
        ("if TYPE_CHECKING:\n    x = 1\nelse:\n    x = 2", "if TYPE_CHECKING:\n    x = 1\nelse:\n    x = 3"),
        ("@a\ndef f(): pass", "@b\ndef f(): pass"),
        ("x = a.b", "x = a.c"),
    ],
)
def test_what_runs_otherwise_has_another_text(one, other):
    assert canonical(ast.parse(one)) != canonical(ast.parse(other))


def test_fields_that_only_some_python_versions_know_change_nothing():
    tree = ast.parse("def f(a): return f'{a:>3}'\nclass A: pass")
    text = canonical(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            node._fields = (*node._fields, "later", "still_later")  # pyright: ignore[reportAttributeAccessIssue]
            node.later, node.still_later = [], None  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(node, ast.JoinedStr):
            node.values.insert(0, ast.Constant(""))
    assert canonical(tree) == text


def test_texts_do_not_depend_on_what_python_can_print():
    assert canonical(ast.parse("x = '\U0001fae8'")).isascii()


def other_pythons() -> list[str]:
    """Return interpreters of the supported versions besides this one, on the path or under pyenv."""
    found = []
    for minor in {11, 12, 13} - {sys.version_info.minor}:
        beside = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python"))
        candidates = [shutil.which(f"python3.{minor}"), *map(str, beside)]
        works = (c for c in candidates if c and not subprocess.run([c, "-c", ""], capture_output=True).returncode)
        found += [next(works, None)]
    return [python for python in found if python]


def digests_of(python: str, root: Path) -> dict[str, str]:
    """Return the digests that an interpreter computes of a copy of the package."""
    program = (
        f"import json; from oba.codedigest import stage_code; jobs = {JOBS!r}\n"
        "print(json.dumps({job: stage_code(*arguments) for job, arguments in jobs.items()}))"
    )
    path = os.pathsep.join([str(root), sysconfig.get_path("purelib")])
    done = subprocess.run(
        [python, "-c", program], env=os.environ | {"PYTHONPATH": path}, cwd=root, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def test_python_versions_agree(before):
    pythons = other_pythons()
    if not pythons:
        pytest.skip("there is no other Python version to compare with")
    for python in pythons:
        assert digests_of(python, ROOT) == before, python


def test_digests_follow_the_files(before, tmp_path):
    shutil.copytree(ROOT / "oba", tmp_path / "oba", ignore=shutil.ignore_patterns("__pycache__"))
    for path in tmp_path.rglob("*.py"):
        text = path.read_text().replace('"""', '"""Another docstring. ', 1)
        path.write_text(text + '\n"""About the last line."""\n# a comment\n')
    assert digests_of(sys.executable, tmp_path) == before
    loop = tmp_path / "oba" / "training" / "loop.py"
    loop.write_text(loop.read_text() + "\nADDED = 1\n")
    after = digests_of(sys.executable, tmp_path)
    assert {"dense", "finetune", "scratch"} <= {job for job in JOBS if after[job] != before[job]}
    assert all(after[job] == before[job] for job in ("prepare", "split", "structures"))


def test_packages_pass_on_the_name_that_is_imported_and_no_other():
    assert "oba.models.build" in reachable("oba.stages.structures")
    assert "oba.models.weights" not in reachable("oba.stages.structures")


def test_an_unknown_module_is_refused():
    with pytest.raises(ModuleNotFoundError, match=r"no module 'oba\.nothing'"):
        code_digest("oba.nothing")

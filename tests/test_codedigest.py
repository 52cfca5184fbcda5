"""A stage's digest follows the code that its result depends on, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oba.codedigest import code_digest, reachable

ROOT = Path(__file__).parents[1]


PROGRAM = (
    "import json; from pathlib import Path; "
    "from oba.codedigest import stage_code; from oba.study import load_study;"
    f"s = load_study(Path('{ROOT}/config/config.yaml'));"
    "print(json.dumps({f'{t} {c}'.strip(): stage_code(s, t, m, c) for t, m, c in ["
    "('prepare', '', ''), ('split', '', ''), ('structures', 'resnet8', ''), ('dense', 'resnet8', ''),"
    "('prune', 'resnet8', 'oba'), ('prune', 'resnet8', 'random'), ('finetune', 'resnet8', ''),"
    "('evaluate', 'resnet8', '')]}))"
)


def digests(root: Path) -> dict[str, str]:
    """Return the digests that a copy of the package computes of itself."""
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return digests(ROOT)


@pytest.fixture
def tree(tmp_path) -> Path:
    """A copy of the package that a test may edit."""
    shutil.copytree(ROOT / "oba", tmp_path / "oba", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def edited(before: dict[str, str], tree: Path, pattern: str, change) -> set[str]:
    """Return the stages whose digest changes with an edit of some files."""
    for path in sorted(tree.glob(f"oba/{pattern}")):
        path.write_text(change(path.read_text()))
    after = digests(tree)
    return {stage for stage in before if before[stage] != after[stage]}


def statement(text: str) -> str:
    return text + "\nADDED = 1\n"


def comment(text: str) -> str:
    return text.replace('"""', '"""Another docstring. ', 1) + "\n# a comment\n"


ALL = {
    "prepare",
    "split",
    "structures",
    "dense",
    "prune oba",
    "prune random",
    "finetune",
    "evaluate",
}


def test_comments_and_docstrings_change_nothing(before, tree):
    assert edited(before, tree, "**/*.py", comment) == set()


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("pruning/select.py", {"prune oba", "prune random"}),
        ("pruning/dependencies.py", {"structures"}),
        ("importance/criteria/oba.py", {"prune oba"}),
        ("importance/criteria/taylor.py", set()),
        ("data/sources/digits.py", {"prepare"}),
        ("data/sources/imagefolder.py", set()),
        ("data/splits.py", {"split"}),
        ("models/families/vgg.py", set()),
        ("models/families/resnet.py", ALL - {"prepare", "split"}),
        ("[cef]*.py", set()),
        ("tracking/*.py", set()),
        ("report/*.py", set()),
    ],
)
def test_a_change_reruns_what_depends_on_it(before, tree, name, stages):
    assert edited(before, tree, name, statement) == stages


def test_pruning_code_never_reaches_the_dense_stage(before, tree):
    changed = edited(before, tree, "pruning/*.py", statement)
    assert {"structures", "prune oba", "finetune", "evaluate"} <= changed
    assert not {"prepare", "split", "dense"} & changed


def test_training_code_reaches_dense_and_finetune(before, tree):
    assert {"dense", "finetune"} <= edited(before, tree, "training/loop.py", statement)


def test_modules_imported_inside_functions_are_followed():
    assert "oba.pruning.select" in reachable("oba.stages.prune")
    assert "oba.training.loop" in reachable("oba.stages.dense")
    assert not any(m.startswith("oba.importance") for m in reachable("oba.stages.finetune"))
    assert "oba.importance.criteria.oba_exact" in reachable("oba.importance.criteria.taylor")


def test_packages_pass_on_the_name_that_is_imported_and_no_other():
    assert "oba.models.build" in reachable("oba.stages.structures")
    assert "oba.models.weights" not in reachable("oba.stages.structures")


def test_an_unknown_module_is_refused():
    with pytest.raises(ModuleNotFoundError, match=r"no module 'oba\.nothing'"):
        code_digest("oba.nothing")

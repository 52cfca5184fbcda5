"""A stage's digest follows the code that its result depends on, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oba.codedigest import code_digest, reachable, stage_code
from oba.study import parse_study

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tree(tmp_path):
    """A copy of the package that a test may edit, and its digests."""
    shutil.copytree(ROOT / "oba", tmp_path / "oba", ignore=shutil.ignore_patterns("__pycache__"))
    program = (
        "import json; from pathlib import Path; from oba.study import load_study; from oba.codedigest import stage_code;"
        f"s = load_study(Path('{ROOT}/config/config.yaml'));"
        "print(json.dumps({f'{t} {c}'.strip(): stage_code(s, t, m, c) for t, m, c in ["
        "('prepare', '', ''), ('split', '', ''), ('structures', 'resnet8', ''), ('dense', 'resnet8', ''),"
        "('prune', 'resnet8', 'oba'), ('prune', 'resnet8', 'random'), ('finetune', 'resnet8', ''),"
        "('evaluate', 'resnet8', '')]}))"
    )

    def digests() -> dict[str, str]:
        import json

        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    return tmp_path / "oba", digests


def edited(tree, name: str, change) -> set[str]:
    """Return the stages whose digest changes with an edit of one file."""
    package, digests = tree
    before = digests()
    path = package / name
    path.write_text(change(path.read_text()))
    after = digests()
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


@pytest.mark.parametrize("name", ["pruning/select.py", "training/loop.py", "importance/criteria/oba.py"])
def test_comments_and_docstrings_change_nothing(tree, name):
    assert edited(tree, name, comment) == set()


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
        ("config.py", set()),
        ("files.py", set()),
        ("tracking/__init__.py", set()),
        ("report/build.py", set()),
        ("cli.py", set()),
    ],
)
def test_a_change_reruns_what_depends_on_it(tree, name, stages):
    assert edited(tree, name, statement) == stages


def test_pruning_code_never_reaches_the_dense_stage(tree):
    package, _ = tree
    for path in sorted(package.glob("pruning/*.py")):
        path.write_text(statement(path.read_text()))
    before = stage_code(parse_study_of(ROOT), "dense", "resnet8")
    assert tree[1]()["dense"] == before


def parse_study_of(root: Path):
    import yaml

    return parse_study(yaml.safe_load((root / "config/config.yaml").read_text()), "study")


def test_training_code_reaches_dense_and_finetune(tree):
    assert {"dense", "finetune"} <= edited(tree, "training/loop.py", statement)


def test_modules_imported_inside_functions_are_followed():
    assert "oba.pruning.select" in reachable("oba.stages.prune")
    assert "oba.training.loop" in reachable("oba.stages.dense")
    assert not any(m.startswith("oba.importance") for m in reachable("oba.stages.finetune"))


def test_an_unknown_module_is_refused():
    with pytest.raises(ModuleNotFoundError, match="no module 'oba.nothing'"):
        code_digest("oba.nothing")

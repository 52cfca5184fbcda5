"""What runs alike has one digest, whatever Python reads it."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from jobs import JOBS, ROOT

from oba.codedigest import canonical


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
    assert all(after[job] == before[job] for job in ("prepare", "split", "trace"))

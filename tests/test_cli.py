"""The command line: one line for what a user can mend, and a code of its own for each kind."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from oba import errors
from oba.cli import app
from oba.dag import STAGES
from oba.locks import LockedError
from oba.ranks import LostRankError
from oba.schema import study_schema

ROOT = Path(__file__).parents[1]


def oba(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "oba", *arguments], capture_output=True, text=True, cwd=ROOT)


def test_every_kind_of_error_has_its_own_code_in_the_docs():
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    kinds = [kind for kind in classes if issubclass(kind, errors.ObaError) and kind is not errors.ObaError]
    codes = {kind.exit_code: kind for kind in [*kinds, LockedError, LostRankError, errors.StoppedError]}
    assert sorted(codes) == list(range(3, 16))
    assert len(codes) == len(kinds) + 3
    told = "3 study, 4 data, 5 model, 6 budget, 7 scores, 8 training, 9 files, 10 tracking, 11 lock, 12 export, "
    page = " ".join((ROOT / "docs/commands.md").read_text().split())
    assert f"{told}13 a killed rank, 14 stopped by a signal, after saving, 15 recovery refused" in page


def test_a_mistake_is_one_line_and_no_traceback(tmp_path, study_values):
    done = oba("dense", "--study", "nowhere.yaml", "--model", "resnet8", "--seed", "0")
    assert (done.returncode, done.stderr) == (9, "error: nowhere.yaml: no such study file\n")
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(study_values | {"kep": 1, "methods": []}))
    done = oba("begin", "--study", str(path))
    assert done.returncode == 3
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "error"]


def test_all_stages_are_commands():
    done = CliRunner().invoke(app, ["--help"])
    assert done.exit_code == 0
    for command in [*(stage.module for stage in STAGES.values()), "collect", "report"]:
        assert command in done.stdout


def test_a_stage_without_its_coordinates_is_refused(tmp_path, study_values):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study_values))
    done = oba("prune", "--study", str(path), "--model", "resnet8", "--seed", "0", "--keep", "0.60")
    assert (done.returncode, done.stderr) == (3, "error: prune: missing --method, --schedule\n")


def test_schema_is_written(tmp_path):
    done = CliRunner().invoke(app, ["schema", str(tmp_path / "schema.json")])
    assert done.exit_code == 0
    assert json.loads((tmp_path / "schema.json").read_text()) == study_schema()


def test_the_package_offers_its_public_functions():
    import oba
    from oba.pruning.replay import load_pruned

    assert oba.load_pruned is load_pruned
    assert all(callable(getattr(oba, name)) for name in oba.__all__ if not name.startswith("__"))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        oba.nothing  # noqa: B018


def test_importing_the_package_costs_no_torch():
    code = (
        "import sys, oba, oba.cli; print([m for m in ('torch', 'mlflow', 'pandas', 'snakemake') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_run_refuses_a_missing_study_before_snakemake_starts(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "oba", "run", "nope.yaml"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (9, "error: nope.yaml: no such study file\n")


def test_run_becomes_snakemake_so_that_signals_reach_it(tmp_path):
    package = tmp_path / "snakemake"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import os, sys; print(os.getpid(), sys.argv[1:])")
    (tmp_path / "study.yaml").write_text("experiment: signals")
    command = [sys.executable, "-m", "oba", "run", "study.yaml", "--cores", "1", "-n"]
    path = f"{tmp_path}:{ROOT}"
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    ) as run:
        printed, _ = run.communicate()
    assert run.returncode == 0
    options = ["--logger", "oba", "--configfile", "study.yaml", "--cores", "1", "-n"]
    assert printed.splitlines() == [f"{run.pid} {options}"]


def test_run_passes_options_on():
    done = oba("run", "config/config.yaml", "-n", "--quiet", "all")
    assert done.returncode == 0, done.stderr
    assert "Building DAG of jobs" in done.stdout, "who chooses a display of Snakemake's gets it"
    done = oba("run", "config/config.yaml", "-n", "--config", "seeds=[-1]")
    assert done.returncode == 1
    assert "study: seeds.0: got -1; allowed: greater than or equal to 0" in done.stdout + done.stderr

"""A copy of the project that tests may run, kill and edit; its jobs import the copy's package."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

ROOT = Path(__file__).parents[2]
TINY = {
    "experiment": "tiny",
    "data": {"name": "digits"},
    "calibration": {"images": 64},
    "models": ["resnet8"],
    "seeds": [0],
    "methods": ["taylor"],
    "keep": [0.7, 0.4],
    "dense": {"epochs": 2, "batch_size": 256},
    "finetune": {"epochs": 1, "batch_size": 256, "lr": 0.01},
    "method_defaults": {"keep_scores": True, "rounds": 2},
    "evaluation": {"latency_runs": 3},
    "runtime": {"device": "cpu"},
}


class Store:
    """A project's SQLite store, read without MLflow."""

    def __init__(self, results: Path) -> None:
        self.database = sqlite3.connect(results / "mlflow.db")

    def rows(self, query: str, *values):
        return self.database.execute(query, values).fetchall()

    def tags(self) -> dict[str, dict[str, str]]:
        """Return the tags of every run by its stage key."""
        runs: dict[str, dict[str, str]] = {}
        for run, key, value in self.rows("select run_uuid, key, value from tags"):
            runs.setdefault(run, {})[key] = value
        return {tags["stage_key"]: tags | {"run": run} for run, tags in runs.items()}

    def history(self, run: str, metric: str) -> list[tuple[int, float]]:
        return self.rows("select step, value from metrics where run_uuid = ? and key = ? order by step", run, metric)

    def params(self, run: str) -> dict[str, str]:
        return dict(self.rows("select key, value from params where run_uuid = ?", run))


@dataclass
class Project:
    """A working copy of the project with a study of its own."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """Make jobs use this copy, and keep tracking inside it."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "SNAKEMAKE_"))}
        return clean | {"PYTHONPATH": str(self.root), "PATH": path, "XDG_CACHE_HOME": str(self.root / ".cache")}

    @property
    def store(self) -> Store:
        """What MLflow's store holds."""
        return Store(self.root / "results")

    def write_study(self, **changes) -> None:
        """Write the tiny study with some sections replaced."""
        (self.root / "tiny.yaml").write_text(yaml.safe_dump(TINY | changes))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--configfile", "tiny.yaml", "--cores", "2", *arguments]

    def snakemake(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake in the copy; a failure shows its output."""
        return self.run(self.command(*arguments), check=check, **environment)

    def oba(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the copy's command line."""
        return self.run([sys.executable, "-m", "oba", *arguments], check=check, **environment)

    def run(self, command: list[str], *, check: bool, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self.root, env=self.environment | environment, capture_output=True, text=True, timeout=900
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def planned(self, *arguments: str) -> Counter[str]:
        """Return how many jobs of each rule a dry run would start."""
        done = self.snakemake("--dry-run", "--quiet", "host", *arguments)
        jobs: Counter[str] = Counter()
        lines = iter(done.stdout.splitlines() + done.stderr.splitlines())
        for line in lines:
            if line.split() == ["job", "count"]:
                next(lines)
                for row in lines:
                    if not row.strip() or row.startswith("total"):
                        break
                    rule, count = row.split()
                    jobs[rule] = int(count)
                break
        return jobs


def copy_project(destination: Path) -> Project:
    """Copy what a run needs."""
    for name in ("oba", "workflow", "profiles", "config"):
        shutil.copytree(ROOT / name, destination / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, destination / name)
    project = Project(destination)
    project.write_study()
    return project


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id) -> Project:
    """A project whose tiny study ran to its end, made once for all workers: to be read, and run only as a copy."""
    base = tmp_path_factory.getbasetemp()
    root = (base if worker_id == "master" else base.parent) / "finished"
    with FileLock(f"{root}.lock"):
        if not (root / "done").exists():
            shutil.rmtree(root, ignore_errors=True)
            copy_project(root).snakemake()
            (root / "done").touch()
    return Project(root)


@pytest.fixture
def store(finished) -> Store:
    """What MLflow's store holds of the finished study."""
    return finished.store


@pytest.fixture
def project(tmp_path) -> Project:
    """A fresh copy."""
    return copy_project(tmp_path)


@pytest.fixture(scope="session")
def copy_of_project():
    """Return the function that copies the project into a folder."""
    return copy_project


@pytest.fixture
def copied(finished, tmp_path) -> Project:
    """A copy of the finished project that a test may run and change; times of files are kept."""
    shutil.copytree(finished.root, tmp_path / "copy", symlinks=True)
    return Project(tmp_path / "copy")


@pytest.fixture(scope="session")
def tiny() -> dict:
    """The study that the projects run."""
    return TINY

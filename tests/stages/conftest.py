"""A small sweep whose first jobs are done: images, splits, structures and a net that comes from a file."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from oba.config import Study
from oba.dag import STAGES
from oba.files import write_json, write_tensors
from oba.layout import Coordinates, Layout
from oba.models import build_model
from oba.stages.job import execute
from oba.study import dump_study, parse_study

AT = {
    "prepare": Coordinates(),
    "split": Coordinates(seed=0),
    "trace": Coordinates("resnet8"),
    "dense": Coordinates("resnet8", 0),
    "evaluate_dense": Coordinates("resnet8", 0, variant="dense"),
}


@dataclass
class Bench:
    """A working directory with a study whose jobs run in this process."""

    root: Path
    study: Study

    @property
    def layout(self) -> Layout:
        return Layout(self.study.experiment)

    def execute(self, *names: str) -> None:
        for name in names:
            execute(STAGES[name].module, self.study, AT[name], source=Path("study.yaml"))

    def outputs(self, name: str) -> list[Path]:
        return STAGES[name].writes(self.layout, AT[name])

    def state(self, name: str) -> Path:
        return self.layout.state(self.outputs(name)[-1])

    def contents(self, *names: str) -> dict[Path, bytes]:
        return {path: path.read_bytes() for name in names for path in self.outputs(name)}

    def forget(self, *names: str) -> None:
        """Delete jobs' outputs, and what was kept of them."""
        for name in names:
            shutil.rmtree(self.state(name), ignore_errors=True)
            for path in self.outputs(name):
                path.unlink(missing_ok=True)


def bench_study(**changes: Any) -> Study:
    """Return the study: no epoch is trained."""
    values = {
        "experiment": "tiny",
        "data": {"name": "digits"},
        "models": ["resnet8"],
        "seeds": [0],
        "methods": ["magnitude"],
        "keep": [0.5],
        "dense": {"from": "net.safetensors", "epochs": 0},
        "finetune": {"epochs": 0},
        "evaluation": {"latency_runs": 3},
        "runtime": {"device": "cpu"},
        "tracking": {"uri": "sqlite:///mlflow.db"},
    }
    return parse_study(values | changes, "study")


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the jobs before pruning were run, made once: to be copied."""
    root = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_tensors(
            Path("net.safetensors"), build_model("resnet8", num_classes=10, input_size=(1, 8, 8)).state_dict()
        )
        study = bench_study()
        write_json(Layout("tiny").study, dump_study(study))
        Bench(root, study).execute(*AT)
    return root


@pytest.fixture
def bench(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A copy of those jobs, times included, in the current directory."""
    root = tmp_path / "bench"
    shutil.copytree(done, root)
    monkeypatch.chdir(root)
    return Bench(root, bench_study())

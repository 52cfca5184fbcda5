"""What a command imports: every job of a sweep pays for it again, before it does anything.

A library that is new here costs each of thousands of jobs up to seconds: import it in the module that needs it, and
that module where it is used, or let its stage have it in :data:`JOBS`.
"""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from oba.dag import stage_of
from oba.imports import imported, importing
from oba.layout import Coordinates, Layout
from oba.stages import collect, report
from oba.stages.job import execute
from oba.study import dump_study, parse_study

HEAVY = {
    "huggingface_hub",
    "matplotlib",
    "mlflow",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pandas",
    "psutil",
    "requests",
    "rich",
    "scipy",
    "sklearn",
    "snakemake",
    "sympy",
    "timm",
    "torch",
    "torch._dynamo",
    "torch._inductor",
    "torch.onnx",
    "torch_pruning",
    "torchvision",
}
"""Modules whose import takes a command's time."""
PROGRAM = """
import atexit, pathlib, sys
atexit.register(lambda: pathlib.Path("modules").write_text(" ".join(sys.modules)))
from oba.cli import main
from functools import partial
from oba.stages import reporting
reporting.FORWARD_AFTER = float("inf")
reporting.stage_run = partial(reporting.stage_run, every=float("inf"))
from oba.tracking import run
run.SAMPLE_SECONDS = 3600
main()
"""
"""The command line, which tells what it has imported. However busy the machine, no job
runs so long that it sends itself to MLflow, or samples the machine's load."""
LIGHT = {"numpy"}
TORCH = LIGHT | {"torch"}
TRAINING = TORCH | {"rich"}
STUDY = {
    "experiment": "tiny",
    "data": {"name": "digits"},
    "calibration": {"images": 32},
    "models": ["resnet8"],
    "seeds": [0],
    "methods": [
        "taylor",
        {"name": "solved", "criterion": "reconstruction", "update": "least-squares"},
        {"name": "weights", "criterion": "magnitude", "granularity": "weights"},
    ],
    "method_defaults": {"rounds": 1, "allocation": "uniform"},
    "controls": ["scratch"],
    "keep": [0.5],
    "dense": {"epochs": 1, "batch_size": 512},
    "finetune": {"epochs": 1, "batch_size": 512},
    "evaluation": {"latency_runs": 3},
    "runtime": {"device": "cpu"},
}
NET = ("resnet8", 0)
LEVEL = (*NET, "taylor", "iterative", "0.50")
JOBS: dict[str, tuple[str, Coordinates, set[str]]] = {
    "prepare": ("prepare", Coordinates(), LIGHT | {"pandas", "psutil", "rich", "scipy", "sklearn"}),
    "split": ("split", Coordinates(seed=0), LIGHT),
    "trace": (
        "trace",
        Coordinates("resnet8"),
        # torch_pruning imports timm, which imports torchvision, which imports torch's compiler.
        TORCH
        | {"huggingface_hub", "sympy", "timm", "torch._dynamo", "torch._inductor", "torch.onnx"}
        | {"torch_pruning", "torchvision"},
    ),
    "dense": ("dense", Coordinates(*NET), TRAINING),
    "evaluate_dense": ("evaluate", Coordinates(*NET, variant="dense"), TORCH),
    "prune": ("prune", Coordinates(*LEVEL), TORCH),
    "prune-solved": ("prune", Coordinates(*NET, "solved", "iterative", "0.50"), TORCH),
    "prune-weights": ("prune", Coordinates(*NET, "weights", "iterative", "0.50"), TORCH),
    "finetune": ("finetune", Coordinates(*LEVEL), TRAINING),
    "evaluate": ("evaluate", Coordinates(*LEVEL, "finetuned"), TORCH),
    "scratch": ("scratch", Coordinates(*LEVEL), TRAINING),
}
"""Command, coordinates, and which heavy modules the command may import, in the order of the sweep."""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a sweep, all of whose jobs are done."""
    folder, threads = tmp_path_factory.mktemp("sweep"), torch.get_num_threads()
    study = parse_study(STUDY, "study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("study.json").write_text(json.dumps(dump_study(study)))
        for command, at, _ in JOBS.values():
            execute(command, study, at, source=Path("study.json"))
        collect.run(study)
        report.run(study)
    torch.set_num_threads(threads)
    return folder


def heavy_imports(folder: Path, *arguments: str) -> set[str]:
    """Run a command in a folder; return the heavy modules that its process has loaded when it ends."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = set((folder / "modules").read_text().split())
    assert "oba.cli" in loaded
    return loaded & HEAVY


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_a_job_imports_what_its_stage_needs(job: str, sweep: Path, tmp_path: Path) -> None:
    command, at, allowed = JOBS[job]
    shutil.copytree(sweep, tmp_path, dirs_exist_ok=True)
    stage, layout = stage_of(command, at), Layout("tiny", tmp_path / "results")
    shutil.rmtree(layout.root / ".state" / stage.place(layout, at))
    for output in stage.writes(layout, at):
        output.unlink()
    variant = ["--variant", "dense"] if job == "evaluate_dense" else []
    found = heavy_imports(tmp_path, command, "--study", "study.json", *stage.options(at).split(), *variant)
    assert stage.record(layout, at).exists()
    assert found <= allowed


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], LIGHT | {"rich"}),
        (["unlock"], LIGHT),
        (["dense", "--study", "study.json", "--model", "resnet8", "--seed", "0"], LIGHT),
        (["collect", "--study", "study.json"], LIGHT | {"pandas"}),
        (["report", "--study", "study.json"], LIGHT | {"matplotlib", "pandas", "rich"}),
        (["show", "--study", "study.json"], LIGHT | {"pandas", "rich"}),
    ],
    ids=["help", "unlock", "a finished job", "collect", "report", "show"],
)
def test_a_command_without_a_net_imports_no_torch(
    arguments: list[str], allowed: set[str], sweep: Path, tmp_path: Path
) -> None:
    shutil.copytree(sweep, tmp_path, dirs_exist_ok=True)
    assert heavy_imports(tmp_path, *arguments) <= allowed


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_pauses_while_importing_and_is_then_as_it_was(enabled: bool) -> None:
    try:
        (gc.enable if enabled else gc.disable)()
        with importing():
            assert not gc.isenabled()
            with importing():
                pass
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
        assert imported("colorsys").rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)
        assert gc.isenabled() == enabled
    finally:
        gc.unfreeze()
        gc.enable()


def test_the_collector_is_as_it_was_after_an_import_that_fails() -> None:
    frozen = gc.get_freeze_count()
    with pytest.raises(ModuleNotFoundError):
        imported("no_such_module")
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen

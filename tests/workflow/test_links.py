"""A whole study whose results lie on another disk, in a checkout with an awkward name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from oba.files import write_tensors
from oba.models import build_model


@pytest.mark.slow
def test_a_study_runs_behind_links_and_odd_names(tmp_path: Path, make_project: Callable) -> None:
    project, scratch = make_project(tmp_path / "it's a $(touch owned) checkout"), tmp_path / "scratch"
    scratch.mkdir()
    (project.root / "results").mkdir()
    (project.root / "results/tiny").symlink_to(scratch)
    weights = "net of $(touch owned) 'mine'.safetensors"
    dense = build_model("resnet8", num_classes=10, input_size=(1, 8, 8))
    write_tensors(project.root / weights, dense.state_dict())
    project.write_study(keep=[0.5], dense={"from": weights, "epochs": 0})
    project.snakemake()
    assert (scratch / "report/summary.md").is_file()
    assert (project.root / "results/tiny").is_symlink()
    assert not project.planned()
    assert not list(tmp_path.rglob("owned"))
    assert project.store.rows("select distinct status from runs") == [("FINISHED",)]

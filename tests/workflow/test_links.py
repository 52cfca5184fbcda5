"""A whole study whose results lie on another disk, in a checkout with an awkward name."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_study_runs_behind_links_and_odd_names(tmp_path: Path, make_project) -> None:
    project = make_project(tmp_path / "it's a $(touch owned) checkout")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (project.root / "results").mkdir()
    (project.root / "results/tiny").symlink_to(scratch)
    weights = "net of $(touch owned) 'mine'.safetensors"
    project.write_study(keep=[0.5], dense={"epochs": 1, "batch_size": 512})
    project.snakemake("--until", "dense")
    (scratch / "resnet8/seed0/dense/model.safetensors").rename(project.root / weights)
    project.write_study(keep=[0.5], dense={"from": weights, "epochs": 0})
    project.snakemake()
    assert (scratch / "report/summary.md").is_file()
    assert (project.root / "results/tiny").is_symlink()
    assert not project.planned()
    assert not list(tmp_path.rglob("owned"))
    statuses = project.store.rows("select distinct status from runs")
    assert statuses == [("FINISHED",)]

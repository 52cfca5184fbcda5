"""Every study of the paper, its whole DAG, on a few images that are none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PAPER = Path(__file__).parents[2] / "config/paper"
ROWS = {
    "cifar10-oneshot": {"models": ["resnet32x4"]},
    "cifar10-iterative": {"models": ["vgg19"], "keep": [0.6, 0.3], "methods": ["oba"]},
    "cifar100-oneshot": {"models": ["vgg19"], "methods": ["oba", "kron-obs"]},
    "cifar100-iterative": {"models": ["resnet32x4"], "methods": ["oba"]},
    "cifar10-unstructured": {},
    "cifar10-disagreements": {"methods": ["paper", "best-epoch"]},
    "imagenet-resnet50": {"methods": ["oba"]},
    "imagenet-vit-b-16": {"methods": ["oba"]},
}
"""The studies, and what of their lists runs: what other rows run as well is left out."""


def overlay(row: str, images: Path) -> dict:
    """Return what is put over a study: that of `config/paper/smoke`, with images elsewhere and shorter lists."""
    smoke = yaml.safe_load((PAPER / f"smoke/{'cifar' if row.startswith('cifar') else 'imagenet'}.yaml").read_text())
    study, wanted = yaml.safe_load((PAPER / f"{row}.yaml").read_text()), ROWS[row]
    smoke["data"]["root"] = str(images)
    if "methods" in wanted:
        named = {m if isinstance(m, str) else m.get("name", m["criterion"]): m for m in study["methods"]}
        wanted = {**wanted, "methods": [named[name] for name in wanted["methods"]]}
    return {**smoke, **wanted}


def test_every_study_is_run():
    assert ROWS.keys() == {path.stem for path in PAPER.glob("*.yaml")}


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_the_whole_study_runs_and_has_nothing_left_to_do(project, tmp_path, row):
    sizes = ["--size", "32"] if row.startswith("cifar") else ["--size", "224", "--classes", "4"]
    maker = [sys.executable, str(PAPER / "smoke/images.py"), str(tmp_path / "images"), *sizes]
    subprocess.run(maker, check=True)
    over = overlay(row, tmp_path / "images")
    (project.root / "over.yaml").write_text(yaml.safe_dump(over))
    files = ["--configfile", f"config/paper/{row}.yaml", "over.yaml"]
    snakemake = [sys.executable, "-m", "snakemake", "--cores", "2", *files]
    project.run(snakemake, check=True)
    report = (project.root / "results/smoke/report/summary.md").read_text()
    study = yaml.safe_load((project.root / "results/smoke/study.json").read_text())
    assert all(f"| {method['name']} " in report for method in study["methods"])
    assert "missing" not in report
    again = project.run([*snakemake, "--dry-run"], check=True)
    assert "Nothing to be done" in again.stdout + again.stderr

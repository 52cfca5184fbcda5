"""What a user did wrong is one clear line of Snakemake's output, and no job has started."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from oba.errors import ConfigError
from oba.study import retyped

STUDY = {
    "experiment": "tiny",
    "data": {"name": "digits"},
    "models": ["resnet8"],
    "seeds": [0],
    "methods": ["taylor"],
    "keep": [0.5],
    "calibration": {"images": 64},
    "dense": {"epochs": 1},
    "finetune": {"epochs": 1},
    "runtime": {"device": "cpu"},
}


def write(root: Path, **changes: object) -> None:
    (root / "tiny.yaml").write_text(yaml.safe_dump(STUDY | changes))


@pytest.mark.parametrize("text", ["[0,1", "a: b: c", "'"])
def test_overrides_that_are_not_yaml_are_refused(text):
    with pytest.raises(ConfigError) as caught:
        retyped({"finetune": {"lr": [text]}})
    assert str(caught.value).startswith(f"--config: {text!r} is not valid YAML: ")
    assert len(str(caught.value).splitlines()) == 1


def test_a_list_that_is_not_closed_on_the_command_line(project):
    write(project.root)
    done = project.snakemake("--dry-run", "--config", "seeds=[0,1", check=False)
    assert done.returncode != 0
    assert (
        "\n--config: '[0,1' is not valid YAML: expected ',' or ']', but got '<stream end>' (line 1, column 5)\n"
        in done.stdout
    )
    assert "yaml/" not in done.stdout


def test_a_dry_run_finds_what_needs_no_net(project):
    write(
        project.root,
        calibration={"images": 5000},
        dense={"from": "pretrained", "epochs": 0},
        runtime={"device": "cuda"},
    )
    done = project.snakemake("--dry-run", check=False, CUDA_VISIBLE_DEVICES="")
    assert done.returncode != 0
    assert "\ncalibration.images: got 5000, but the training split has 1294 images" in done.stdout
    assert "\nruntime.device: 'cuda', but this machine shows no NVIDIA GPU" in done.stdout
    assert "\nmodels.resnet8: dense.from: 'pretrained', but nobody publishes weights for this net" in done.stdout
    write(project.root, data={"name": "imagefolder"})
    done = project.snakemake("--dry-run", check=False)
    assert "\ndata.root: imagefolder needs the folder of the images\n" in done.stdout
    assert "Traceback" not in done.stdout


def test_nets_are_tried_before_the_first_job_that_meets_one(project):
    write(project.root, keep=[0.5, 0.01])
    done = project.snakemake(check=False)
    assert done.returncode != 0
    assert "\nmodels.resnet8: keep=0.01 cannot be reached: " in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in (project.root / "results/tiny").iterdir()] == ["study.json"]
    project.snakemake("--until", "split")
    assert (project.root / "results/tiny/data/split-seed0.json").exists()

"""What runs again, and what does not."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oba.files import read_json


def edit(path: Path, change) -> None:
    path.write_text(change(path.read_text()))


def test_a_finished_study_has_nothing_to_do(copied):
    assert copied.planned() == Counter()
    assert "Nothing to be done" in copied.snakemake().stderr


def test_touch_and_comments_rerun_nothing(copied):
    for path in sorted(copied.root.glob("oba/**/*.py")):
        edit(path, lambda text: text + "\n# a comment\n")
    for path in [*copied.root.glob("workflow/**/*.smk"), copied.root / "Snakefile"]:
        os.utime(path)
    assert copied.planned() == Counter()


def test_a_new_method_adds_only_its_chain(copied):
    copied.write_study(methods=["taylor", "random"])
    assert copied.planned() == Counter(prune=2, finetune=2, evaluate=2, collect=1, report=1, all=1)


def test_a_new_seed_shares_data_and_structures(copied):
    copied.write_study(seeds=[0, 1])
    assert copied.planned() == Counter(
        split=1, dense=1, evaluate_dense=1, prune=2, finetune=2, evaluate=2, collect=1, report=1, all=1
    )


def test_a_new_level_adds_only_its_stages(copied):
    copied.write_study(keep=[0.7, 0.4, 0.3])
    assert copied.planned() == Counter(prune=1, finetune=1, evaluate=1, collect=1, report=1, all=1)


def test_finetuning_epochs_leave_the_first_pruning_alone(copied, tiny):
    copied.write_study(finetune=tiny["finetune"] | {"epochs": 2})
    jobs = copied.planned()
    assert jobs == Counter(finetune=2, prune=1, evaluate=2, collect=1, report=1, all=1)


def test_pruning_code_leaves_the_dense_stage_alone(copied):
    edit(copied.root / "oba/pruning/greedy.py", lambda text: text + "\nADDED = 1\n")
    jobs = copied.planned()
    assert jobs["prune"] == 2
    assert not {"prepare", "split", "trace", "dense", "evaluate_dense"} & set(jobs)


def test_a_criterions_code_reruns_its_own_chain_only(copied):
    copied.write_study(methods=["taylor", "magnitude"])
    copied.snakemake("--until", "prune")
    edit(copied.root / "oba/importance/criteria/magnitude.py", lambda text: text + "\nADDED = 1\n")
    done = copied.snakemake("--dry-run")
    planned = {line.split()[-1] for line in done.stdout.splitlines() if line.strip().startswith("output:")}
    assert any("magnitude-iterative/keep0.70/pruned" in line for line in planned)
    assert not any("taylor-iterative/keep0.70/pruned" in line for line in planned)


def test_a_methods_option_reruns_that_method_only(copied):
    copied.write_study(methods=["taylor", "magnitude"])
    copied.snakemake("--until", "prune")
    copied.write_study(methods=["taylor", {"criterion": {"name": "magnitude", "magnitude": "l2"}}])
    done = copied.snakemake("--dry-run")
    outputs = [line for line in done.stdout.splitlines() if line.strip().startswith("output:")]
    assert any("magnitude-iterative/keep0.70/pruned" in line for line in outputs)
    assert not any("taylor-iterative" in line for line in outputs)


def test_a_methods_own_fine_tuning_reruns_that_alone(copied):
    own = {"name": "taylor", "criterion": "taylor", "finetune": {"distillation": {"weight": 0.5}}}
    copied.write_study(methods=[own])
    assert copied.planned() == Counter(finetune=2, prune=1, evaluate=2, collect=1, report=1, all=1)
    copied.snakemake("--until", "finetune")
    record = read_json(copied.root / "results/tiny/resnet8/seed0/taylor-iterative/keep0.70/finetuned/run.json")
    assert "results/tiny/resnet8/seed0/dense/model.safetensors" in record["inputs"]


def test_calibration_images_leave_splits_and_dense_nets_alone(copied):
    copied.write_study(calibration={"images": 96})
    assert copied.planned() == Counter(prune=2, finetune=2, evaluate=2, collect=1, report=1, all=1)


def test_a_level_between_others_reruns_those_below(copied):
    copied.write_study(keep=[0.7, 0.5, 0.4])
    assert copied.planned() == Counter(prune=2, finetune=2, evaluate=2, collect=1, report=1, all=1)


def test_report_code_remakes_the_report_and_nothing_else(copied):
    edit(copied.root / "oba/report/tradeoff.py", lambda text: text + "\nADDED = 1\n")
    assert copied.planned() == Counter(report=1, all=1)


def test_a_lost_array_of_images_is_made_again_and_nothing_is_trained_again(copied):
    images, dense = (
        copied.root / "results/tiny" / name for name in ("data/images.npy", "resnet8/seed0/dense/run.json")
    )
    before, trained = images.read_bytes(), dense.read_bytes()
    images.unlink()
    assert copied.planned() == Counter(), "nobody needs it now"
    copied.write_study(methods=["taylor", "random"])
    assert copied.planned()["prepare"] == 1
    copied.snakemake()
    assert images.read_bytes() == before
    assert dense.read_bytes() == trained


def test_changed_images_are_seen(project):
    root, generator = project.root / "pictures", np.random.default_rng(0)
    for kind in ("cat", "dog"):
        for number in range(12):
            path = root / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    project.write_study(
        data={"name": "imagefolder", "root": "pictures"}, splits={"val": 0.3, "test": 0.3}, calibration={"images": 4}
    )
    project.snakemake("--until", "prepare")
    assert project.planned("--until", "prepare") == Counter()
    for path in root.rglob("*.png"):
        os.utime(path, (1, 1))
    assert project.planned("--until", "prepare") == Counter(), "times alone change nothing"
    edited = root / "cat/0.png"
    edited.write_bytes((root / "dog/0.png").read_bytes())
    assert project.planned("--until", "prepare") == Counter(prepare=1)
    project.snakemake("--until", "prepare")
    (root / "cat/1.png").unlink()
    assert project.planned("--until", "prepare") == Counter(prepare=1)
    project.snakemake("--until", "prepare")
    shutil.copy(edited, root / "cat/99.png")
    assert project.planned("--until", "prepare") == Counter(prepare=1)


def test_controls_join_the_sweep(copied):
    copied.write_study(controls=["scratch", "dense-longer"])
    assert copied.planned() == Counter(scratch=2, prune=2, finetune=2, evaluate=4, collect=1, report=1, all=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["keep=[0.4,0.7]"], "study: keep: levels [0.4, 0.7] must decrease"),
        (["methods=[tailor]"], "study: methods.tailor.criterion: unknown criterion 'tailor' (did you mean 'taylor'?)"),
        (["finetune={epoch: 3}"], "study: finetune.epoch: unknown key (did you mean 'epochs'?)"),
        (["models=[resnet9]"], "study: models: unknown model 'resnet9'"),
    ],
)
def test_a_wrong_study_stops_before_any_job(project, arguments, message):
    done = project.snakemake("--config", *arguments, check=False)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project.root / "results").exists()


def test_a_level_that_cannot_be_reached_stops_the_run_before_training(project):
    project.write_study(keep=[0.7, 0.02])
    done = project.snakemake(check=False)
    assert done.returncode != 0
    assert "keep=0.02 cannot be reached" in done.stderr
    assert "the lowest is keep=0." in done.stderr
    assert not (project.root / "results/tiny/resnet8/seed0").exists(), "nothing was trained"


def test_overrides_and_views_of_the_graph(copied):
    done = copied.snakemake("--dry-run", "--config", "seeds=[0,1]", "finetune={epochs: 2}")
    assert "seed1" in done.stdout
    graph = copied.snakemake("--dag").stdout
    assert graph.count("label") > 8
    assert "digraph" in graph


def test_a_study_file_is_not_merged_over_the_default_study(project):
    study = (project.root / "tiny.yaml").read_text()
    assert "augment" not in study
    project.snakemake("--until", "prepare")
    resolved = (project.root / "results/tiny/study.json").read_text()
    assert '"crop": "none"' in resolved


def test_a_static_report_can_be_made(copied, tmp_path):
    copied.snakemake("--report", str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").stat().st_size > 100_000

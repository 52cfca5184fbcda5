"""New entries of the page on extending are files, written into a copy of the package as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/extending.md").read_text()
FILES: list[str] = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
STUDIES = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)]


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Path:
    """A copy of the package with all that the page adds."""
    root = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "oba", root / "oba", ignore=shutil.ignore_patterns("__pycache__"))
    added = [text for text in FILES if text.startswith("# oba/")]
    for text in added:
        path = root / text.splitlines()[0].removeprefix("# ")
        assert not path.exists()
        path.write_text(text)
    assert len(added) == 5
    [edit] = [text for text in FILES if text.startswith("# in oba/")]
    path = root / edit.splitlines()[0].removeprefix("# in ")
    lines = path.read_text().splitlines()
    for line in edit.splitlines()[1:]:
        [place] = [i for i, old in enumerate(lines) if old.split(" = ")[0] == line.split(" = ")[0]]
        lines[place] = line
    path.write_text("\n".join(lines) + "\n")
    return root


def run(root: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the extended package."""
    check = f"import oba; assert oba.__file__.startswith({str(root)!r})\n"
    environment = os.environ | {"PYTHONPATH": str(root), "XDG_CACHE_HOME": str(root / "cache")}
    command = [sys.executable, "-c", check + program]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


def test_a_criterion_an_allocation_and_an_update_are_one_file_each(extended):
    [method] = next(study["methods"] for study in STUDIES if "methods" in study)
    done = run(
        extended,
        "import torch\n"
        "torch.manual_seed(0)\n"
        "from oba.models import build_model\n"
        "model = build_model('resnet8', num_classes=4, input_size=(3, 8, 8))\n"
        "images = [(torch.randn(8, 3, 8, 8), torch.randint(4, (8,))) for _ in range(2)]\n"
        f"small = oba.prune(model, images, keep=0.5, method={method!r})\n"
        "print([m.out_channels for m in small.modules() if isinstance(m, torch.nn.Conv2d)])\n"
        "from oba.study import parse_method\n"
        "parse_method({'criterion': {'name': 'power', 'p': -1}})\n",
    )
    assert "oba.errors.ConfigError: methods.power: criterion 'power': p: got -1; " in done.stderr, done.stderr
    narrowed = [width for width in yaml.safe_load(done.stdout) if width not in {16, 32, 64}]
    assert len(narrowed) == 3, "the inner layers of three blocks; residual streams stay whole"
    assert max(narrowed) - min(narrowed) <= 1, "from 16, 32 and 64 channels, the widest first"


@pytest.mark.slow
def test_a_data_set_and_a_family_of_networks_train_and_prune(extended, study_values):
    study: dict = {}
    for values in STUDIES:
        study |= {key: value for key, value in values.items() if key in {"data", "models"}}
    recipe = {"epochs": 3, "batch_size": 32}
    study |= {
        "methods": ["magnitude"],
        "keep": [0.5],
        "dense": recipe,
        "finetune": recipe,
        "calibration": {"images": 64},
    }
    (extended / "study.yaml").write_text(yaml.safe_dump(study_values | study))
    stages = ["prepare", "split --seed 0", *(f"trace --model {model}" for model in study["models"])]
    at = f"--model {study['models'][0]} --seed 0"
    level = f"{at} --method magnitude --schedule iterative --keep 0.50"
    stages += [f"dense {at}", f"prune {level}", f"finetune {level}"]
    for stage in stages:
        done = run(
            extended,
            f"import sys; sys.argv = 'oba {stage} --study study.yaml'.split(); from oba.cli import main; main()",
        )
        assert done.returncode == 0, done.stderr
    [metrics] = extended.glob("results/tiny/plain3/seed0/magnitude-iterative/keep0.50/finetuned/metrics.json")
    assert yaml.safe_load(metrics.read_text())["total_epochs"] == 6

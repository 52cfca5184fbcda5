"""The README's examples run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import oba
from oba.study import parse_study

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def blocks(language: str, having: str) -> list[str]:
    found = [text for kind, text in BLOCKS if kind == language and having in text]
    assert found, f"the README has no {language} example with {having!r}"
    return found


def test_five_lines_prune_a_users_own_net(tmp_path, monkeypatch):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    images = [(torch.randn(8, 3, 8, 8), torch.randint(4, (8,))) for _ in range(3)]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    monkeypatch.chdir(tmp_path)
    [example] = blocks("python", "small = oba.prune")
    names: dict = {"model": model, "images": images}
    exec(compile(example, "README.md", "exec"), names)
    small, again = names["small"], names["again"]
    assert small[0].out_channels < 8
    assert torch.equal(small(images[0][0]), again(images[0][0]))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    groups = oba.find_groups(model, (3, 8, 8))
    scores = oba.score(model, images, "oba-joint")
    assert list(scores.alone) == [group.name for group in groups] == ["0", "3"]


def test_the_studies_are_possible(study_values):
    for text in blocks("yaml", "methods:"):
        values = study_values | yaml.safe_load(text)
        if "power" not in text:  # an entry that the next test adds
            assert parse_study(values, "README").methods


@pytest.mark.slow
def test_a_criterion_an_allocation_and_an_update_are_one_file_each(tmp_path):
    shutil.copytree(ROOT / "oba", tmp_path / "oba", ignore=shutil.ignore_patterns("__pycache__"))
    entries = [text for text in blocks("python", "# oba/") if text.startswith("# oba/")]
    for text in entries:
        path = tmp_path / text.splitlines()[0].removeprefix("# ")
        assert not path.exists()
        path.write_text(text)
    assert len(entries) == 3
    [method] = blocks("yaml", "power")
    program = (
        "import torch, yaml, oba\n"
        f"assert oba.__file__.startswith({str(tmp_path)!r})\n"
        "torch.manual_seed(0)\n"
        "from oba.models import build_model\n"
        "model = build_model('resnet8', num_classes=4, input_size=(3, 8, 8))\n"
        "images = [(torch.randn(8, 3, 8, 8), torch.randint(4, (8,))) for _ in range(2)]\n"
        f"[method] = yaml.safe_load({method!r})['methods']\n"
        "small = oba.prune(model, images, keep=0.5, method=method)\n"
        "print([m.out_channels for m in small.modules() if isinstance(m, torch.nn.Conv2d)])\n"
        "from oba.study import parse_method\n"
        "parse_method({'criterion': {'name': 'power', 'p': -1}})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert "oba.errors.ConfigError: methods.power: criterion 'power': p: got -1; " in done.stderr, done.stderr
    narrowed = [width for width in yaml.safe_load(done.stdout) if width not in {16, 32, 64}]
    assert len(narrowed) == 3, "the inner layers of three blocks; residual streams stay whole"
    assert max(narrowed) - min(narrowed) <= 1, "from 16, 32 and 64 channels, the widest first"

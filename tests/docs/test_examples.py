"""Examples of the README and the pages run as they stand there, and print what the pages say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from oba.config import Study
from oba.models import build_model
from oba.models.stored import ModelCard, save_pruned
from oba.pruning.plan import Plan
from oba.study import parse_study

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = re.compile(r"^```python\n(.*?)^```\n(?:\n^```text\n(.*?)^```)?", re.DOTALL | re.MULTILINE)
YAML = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
RESNET = "('resnet8', num_classes=10, input_size=(1, 8, 8))"
END = "--- end of an example ---"
CHECKS = {
    "README.md": "x = images[0][0]\n"
    "assert torch.equal(small.eval()(x), again(x))\n"
    "assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())\n"
    "assert model.layer1[0].conv1.out_channels == 64\n"
}
"""What else must hold after the examples of a page."""
WITH_NEW_ENTRIES = "extending.md"
ELSEWHERE = {WITH_NEW_ENTRIES, "tracking.md"}
"""Pages whose examples are run by tests/docs/test_extending.py and, with a server, by tests/tracking."""


def stored(folder: Path) -> None:
    """Store a network that the pipeline knows by its name."""
    net = build_model("resnet8", num_classes=10, input_size=(1, 8, 8))
    save_pruned(folder, net, ModelCard("resnet8", 10, (1, 8, 8), (), (), ()), Plan(), None)


def agree(said: str, printed: str) -> bool:
    """Compare texts: words exactly, numbers roughly, since processors round differently."""
    if NUMBER.sub("#", said) != NUMBER.sub("#", printed):
        return False
    pairs = zip(NUMBER.findall(said), NUMBER.findall(printed), strict=True)
    return all(abs(float(a) - float(b)) <= 0.15 * abs(float(a)) + (0.1 if "." in a else 2) for a, b in pairs)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if EXAMPLE.search(page.read_text()) and page.name not in ELSEWHERE],
    ids=lambda page: page.name,
)
def test_examples_print_what_the_page_says(page, tmp_path):
    examples = EXAMPLE.findall(page.read_text())
    program = "".join(f"{code}print({END!r})\n" for code, _ in examples) + CHECKS.get(page.name, "")
    for folder in re.findall(r'"(results/[^"]+)"', page.read_text()):
        stored(tmp_path / folder)
    if page.name == "export.md":  # it goes on from a network that `oba.prune(…, save=…)` stored
        stored(tmp_path / "pruned")
        program = f"from oba.models import build_model\nmodel = build_model{RESNET}\n{program}"
    (tmp_path / "page.py").write_text(program)
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *printed, rest = done.stdout.split(f"{END}\n")
    assert not rest
    for (code, said), found in zip(examples, printed, strict=True):
        assert agree(said, found), f"{page.name}:\n{code}\nprinted\n{found}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_parts_of_studies_are_possible(page, study_values):
    for text in YAML.findall(page.read_text()):
        values = yaml.safe_load(text)
        if set(values) <= set(Study.model_fields) and page.name != WITH_NEW_ENTRIES:
            if values.get("gpus"):
                values["runtime"] = {"device": "cpu"}
            assert parse_study(study_values | {"finetune": {"epochs": 1}} | values, page.name).methods


def test_numbers_are_compared_roughly_and_words_exactly():
    assert agree("kept [4, 7], 71.3 %", "kept [5, 7], 69.0 %")
    assert not agree("kept [4, 7], 71.3 %", "kept [4, 7], 41.3 %")
    assert not agree("kept 4", "left 4")
    assert not agree("", "something that the page does not show\n")


def test_the_readme_is_one_screen_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 80
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith("https://") or (ROOT / target).is_file(), target

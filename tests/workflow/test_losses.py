"""The same command puts back what was lost or damaged, and no stale or wrong result is taken for success."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from oba.files import digest_file

TINY = "results/tiny"
LEVEL = f"{TINY}/resnet8/seed0/taylor-iterative/keep0.40"
DENSE = f"{TINY}/resnet8/seed0/dense"


def flip(path: Path) -> None:
    """Turn one bit around in place, as a disk does: the times stay."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def results(root: Path) -> dict[Path, str]:
    """Return digests of all that jobs left, the report apart."""
    folders = [root / TINY / name for name in ("data", "resnet8")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(root): digest_file(path) for path in files}


def test_the_same_command_puts_back_what_is_lost_and_nothing_else_runs(copied):
    before = results(copied.root)
    shutil.rmtree(copied.root / LEVEL)
    (copied.root / TINY / "data/images.npy").unlink()
    os.truncate(copied.root / TINY / "data/labels.npy", 100)
    (copied.root / DENSE / "plan.json").write_text("{}")
    done = copied.snakemake()
    assert "Nothing to be done" in done.stderr
    assert f"{TINY}/data/images.npy: was lost; put back" in done.stderr
    assert f"{TINY}/data/labels.npy: was damaged; put back" in done.stderr
    assert results(copied.root) == before


@pytest.mark.slow
def test_what_cannot_be_put_back_is_made_again_and_the_rest_stays(copied):
    before, dense = results(copied.root), (copied.root / DENSE / "run.json").read_bytes()
    shutil.rmtree(copied.root / TINY / ".state")
    shutil.rmtree(copied.root / LEVEL)
    (copied.root / TINY / "report/tradeoff.png").unlink()
    assert copied.planned() == Counter(prune=1, finetune=1, evaluate=1, collect=1, report=1, all=1)
    copied.snakemake()
    assert (copied.root / DENSE / "run.json").read_bytes() == dense
    after = results(copied.root)
    assert after.keys() == before.keys()
    weights = [path for path in before if path.name in {"model.safetensors", "plan.json"}]
    assert {path: after[path] for path in weights} == {path: before[path] for path in weights}
    assert (copied.root / TINY / "report/tradeoff.png").exists()
    assert copied.planned() == Counter()


@pytest.mark.slow
def test_scores_that_are_kept_are_no_less_than_other_outputs(copied):
    before, scores = results(copied.root), copied.root / LEVEL / "pruned/scores.safetensors"
    scores.unlink()
    assert copied.planned() == Counter()
    assert f"{LEVEL}/pruned/scores.safetensors: was lost; put back" in copied.snakemake().stderr
    assert results(copied.root) == before
    scores.unlink()
    shutil.rmtree(copied.root / TINY / ".state")
    copied.snakemake()
    assert digest_file(scores) == before[scores.relative_to(copied.root)]


@pytest.mark.slow
def test_damage_that_the_report_meets_is_no_success_and_mended_by_the_next_run(copied):
    shutil.rmtree(copied.root / TINY / ".state")
    evaluation = copied.root / LEVEL / "finetuned/evaluation.json"
    flip(evaluation)
    (copied.root / TINY / "report/runs.csv").unlink()
    done = copied.snakemake(check=False)
    assert done.returncode != 0
    what = "lost or damaged, and no intact copy is kept; run again: it is made again"
    assert f"error: {LEVEL}/finetuned/evaluation.json: {what}" in done.stdout + done.stderr
    table = (copied.root / TINY / "report/summary.md").read_text()
    assert "Out of date" in table or "## Missing" in table
    assert copied.planned() == Counter(evaluate=1, collect=1, report=1, all=1)
    copied.snakemake()
    table = (copied.root / TINY / "report/summary.md").read_text()
    assert "Out of date" not in table
    assert "Missing" not in table
    assert evaluation.exists()

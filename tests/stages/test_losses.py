"""What a sweep had and lost is found before Snakemake plans, and put back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from oba.errors import FileError
from oba.files import locked, read_json
from oba.layout import Coordinates
from oba.stages.losses import find_lost, mend_records

STAGES = ("prepare", "split", "trace", "dense", "evaluate_dense")
NET = Path("results/tiny/resnet8/seed0/dense")


def find(bench, *, repair: bool = True) -> list[Path]:
    return find_lost(bench.study, bench.layout, repair=repair)


def everything(root: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


def test_nothing_is_lost_of_a_sweep_that_has_not_begun_or_goes_on(bench):
    before = everything(bench.root)
    assert find(bench) == find(bench, repair=False) == [], "pruning has never run"
    assert everything(bench.root) == before
    shutil.rmtree("results")
    assert find(bench) == []
    assert not Path("results").exists()


def test_deleted_folders_and_damaged_files_are_put_back_as_old_as_they_were(bench, capsys, caplog):
    before = everything(Path("results/tiny/data")) | everything(NET)
    shutil.rmtree(NET)
    Path("results/tiny/data/images.npy").unlink()
    os.truncate("results/tiny/data/labels.npy", 100)
    assert find(bench, repair=False) == []
    assert "A run puts back 8 lost files: results/tiny/data/images.npy, " in capsys.readouterr().err
    assert not NET.exists()
    assert find(bench) == []
    assert everything(Path("results/tiny/data")) | everything(NET) == before
    assert len(caplog.messages) == 9
    assert find(bench) == []


def test_what_cannot_be_put_back_is_to_be_made_again(bench):
    shutil.rmtree("results/tiny/.state")
    weights, plan = NET / "model.safetensors", NET / "plan.json"
    weights.unlink()
    os.truncate(plan, 10)
    assert find(bench, repair=False) == [weights]
    assert plan.exists()
    assert find(bench) == [weights, plan]
    assert (NET / "plan.json.damaged").read_bytes() == b'{\n "card":'
    bench.execute("dense")
    assert find(bench) == []


def test_a_lost_record_is_missed_wherever_its_files_are(bench):
    shutil.rmtree("results/tiny/.state")
    (NET / "run.json").unlink()
    assert find(bench, repair=False) == find(bench) == [NET / "run.json"]


def test_with_its_report_a_sweep_misses_every_job(bench):
    shutil.rmtree("results/tiny/.state")
    shutil.rmtree(NET)
    assert find(bench) == []
    bench.layout.report.mkdir()
    (bench.layout.report / "summary.md").touch()
    level = bench.layout.level(Coordinates("resnet8", 0, "magnitude", "iterative", "0.50"))
    records = [NET / "run.json", NET / "evaluation-run.json", level / "pruned/run.json"]
    records += [level / "finetuned/run.json", level / "finetuned/evaluation-run.json"]
    assert find(bench) == records


def test_touched_files_are_compared_and_made_as_old_as_their_record(bench):
    weights, record = NET / "model.safetensors", NET / "run.json"
    before = weights.read_bytes()
    weights.touch()
    assert weights.stat().st_mtime_ns > record.stat().st_mtime_ns
    assert find(bench) == []
    assert weights.stat().st_mtime_ns == record.stat().st_mtime_ns
    assert weights.read_bytes() == before


def test_a_job_that_somebody_works_on_is_left_alone(bench):
    (NET / "model.safetensors").unlink()
    with locked(bench.state("dense")):
        assert find(bench) == []
        assert not (NET / "model.safetensors").exists()
    assert find(bench) == []
    assert (NET / "model.safetensors").exists()


def test_damaged_records_are_put_back_or_named(bench):
    assert not mend_records(bench.study, bench.layout)
    record = NET / "run.json"
    before = read_json(record)
    record.write_text("{")
    assert mend_records(bench.study, bench.layout)
    assert read_json(record) == before
    record.write_text("{}")
    shutil.rmtree("results/tiny/.state")
    with pytest.raises(FileError, match=rf"^{record}: damaged, and no intact copy is kept; run again"):
        mend_records(bench.study, bench.layout)
    assert find(bench) == [record]

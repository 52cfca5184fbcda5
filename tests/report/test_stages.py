"""The two stages of the report on a made-up sweep."""

from __future__ import annotations

import csv
import json

import pytest

from oba.errors import FileError
from oba.gaps import Gaps
from oba.layout import Layout, nets
from oba.report.terminal import closing_text
from oba.stages import collect, report
from oba.study import parse_study

STUDY = {
    "experiment": "tiny",
    "data": {"name": "digits"},
    "models": ["resnet8"],
    "seeds": [0, 1],
    "methods": ["magnitude", "random"],
    "keep": [0.6, 0.3],
    "dense": {"epochs": 1},
    "finetune": {"epochs": 1},
}


@pytest.fixture
def study(make_sweep, tmp_path, monkeypatch):
    sweep = make_sweep(models=("resnet8",), methods=("magnitude", "random"), keep=(0.6, 0.3))
    sweep.root = tmp_path / "results/tiny"
    sweep.write()
    monkeypatch.chdir(tmp_path)
    return parse_study(STUDY, "study")


@pytest.fixture
def lacking(study, monkeypatch):
    """Make some nets missing."""

    def choose(chosen):
        reasons = {at: "prune failed: no" for at in nets(study) if chosen(at)}
        monkeypatch.setattr(collect, "find_gaps", lambda *_: Gaps(reasons, []))

    return choose


def rows():
    with (Layout("tiny").report / "runs.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_table_with_gaps_is_older_than_anything_and_a_whole_one_is_not(study, lacking):
    table = Layout("tiny").report / "runs.csv"
    lacking(lambda at: at.method == "random" and at.seed == 1)
    collect.run(study)
    assert [row["seed"] for row in rows() if row["missing"]] == ["1", "1"]
    assert table.stat().st_mtime == 1
    lacking(lambda at: False)
    collect.run(study)
    assert not [row for row in rows() if row["missing"]]
    assert table.stat().st_mtime > 1e9


@pytest.mark.parametrize(
    "chosen",
    [
        lambda at: at.method == "random",
        lambda at: at.seed == 1,
        lambda at: at.method == "magnitude" and at.keep == "0.60",
        lambda at: at.variant != "dense",
    ],
)
def test_every_kind_of_gap_leaves_a_report(study, lacking, chosen):
    lacking(chosen)
    collect.run(study)
    report.run(study)
    folder = Layout("tiny").report
    assert {path.name for path in folder.iterdir()} == {
        *("runs.csv", "summary.csv", "summary.md", "index.html", "tradeoff.png", "channels.png", "curves.png")
    }
    count = sum(map(chosen, nets(study)))
    assert (folder / "summary.md").read_text().count(": prune failed: no") == count
    assert closing_text(folder, "sqlite:///x.db").count("prune failed: no") == count


def test_identical_images_reach_the_table(study, lacking):
    lacking(lambda at: False)
    found = {"counts": {"test in train": 2}, "examples": ["a in test = b in train"]}
    path = Layout("tiny").data / "split-seed1-run.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"settings": {}, "inputs": {}, "stage": "split", "duplicates": found}))
    collect.run(study)
    assert {(row["seed"], row["duplicates"]) for row in rows()} == {("0", ""), ("1", "2 test in train")}


def test_nothing_finished_is_an_error_that_says_why(study):
    with pytest.raises(FileError, match=r"no dense net has been evaluated, .*; not run: prepare has not run"):
        collect.run(study)
    assert not (Layout("tiny").report / "runs.csv").exists()

"""``prepare`` and ``split`` as stages: what they leave, remake and refuse."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oba.config import Study
from oba.data.split_files import read_splits
from oba.data.types import PREPARED_FILES
from oba.errors import DataError, FileError
from oba.files import read_json
from oba.layout import Coordinates
from oba.stages.job import execute
from oba.study import parse_study

Run = Callable[..., None]


@pytest.fixture
def run(
    tmp_path: Path, make_folder: Callable[..., Path], study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Return a function that prepares 20 images in a folder, or splits them; one image is there twice."""
    monkeypatch.chdir(tmp_path)
    root = make_folder({"a": 10, "b": 10})
    shutil.copy(root / "a/000.png", root / "b/000.png")

    def run(stage: str, **data: str) -> None:
        study_values["data"] = {"name": "imagefolder", "root": str(root), **data}
        study_values["splits"] = {"val": 0.2, "test": 0.5}
        at = Coordinates(seed=0) if stage == "split" else Coordinates()
        execute(stage, parse_study(study_values, "study"), at, source=Path("study.yaml"))

    return run


@pytest.mark.parametrize("name", PREPARED_FILES)
def test_prepare_remakes_what_is_missing(run: Run, name: str) -> None:
    directory = Path("results/tiny/data")
    run("prepare")
    assert {*PREPARED_FILES, "run.json"} <= {path.name for path in directory.iterdir()}
    content = (directory / name).read_bytes()
    (directory / name).unlink()
    run("prepare")
    assert (directory / name).read_bytes() == content


def test_prepare_leaves_what_is_complete(run: Run) -> None:
    run("prepare")
    before = {path: path.stat().st_mtime_ns for path in Path("results/tiny/data").iterdir()}
    run("prepare")
    assert {path: path.stat().st_mtime_ns for path in Path("results/tiny/data").iterdir()} == before


def test_duplicates_are_recorded(run: Run) -> None:
    run("prepare")
    assert read_json(Path("results/tiny/data/run.json"))["duplicates"] == {"counts": {}, "examples": []}
    run("split")
    record = read_json(Path("results/tiny/data/split-seed0-run.json"))
    splits = read_splits(Path("results/tiny/data/split-seed0.json"))
    assert record["train"] == len(splits.train)
    places = [name for name in ("train", "val", "test") if {0, 10} & set(getattr(splits, name).tolist())]
    assert len(places) == 2, "the seed must separate the two"
    pairs = {"val in train": 0, "test in train": 0, "test in val": 0}
    assert record["duplicates"]["counts"] == {**pairs, f"{places[1]} in {places[0]}": 1}
    assert len(record["duplicates"]["examples"]) == 1


def test_own_test_images_that_train_are_found_by_prepare(run: Run, make_folder: Callable[..., Path]) -> None:
    root = make_folder({"train/a": 2, "train/b": 2, "test/a": 1, "test/b": 1}, name="own")
    shutil.copy(root / "train/b/001.png", root / "test/a/000.png")
    run("prepare", root=str(root))
    found = read_json(Path("results/tiny/data/run.json"))["duplicates"]
    assert found == {
        "counts": {"test in train": 1},
        "examples": ["test/a/000.png in test = train/b/001.png in train"],
    }
    with pytest.raises(DataError, match=r"^data\.duplicates: identical images \(1 test in train\)"):
        run("prepare", root=str(root), duplicates="error")


def test_own_validation_images_stay_what_they_are(run: Run, make_folder: Callable[..., Path]) -> None:
    counts = {"train/a": 3, "train/b": 3, "val/a": 2, "val/b": 2, "test/a": 1, "test/b": 1}
    root = make_folder(counts, name="own")
    shutil.copy(root / "train/b/001.png", root / "val/a/000.png")
    run("prepare", root=str(root))
    found = read_json(Path("results/tiny/data/run.json"))["duplicates"]
    assert found == {
        "counts": {"val in train": 1, "test in train": 0, "test in val": 0},
        "examples": ["val/a/000.png in val = train/b/001.png in train"],
    }
    info = read_json(Path("results/tiny/data/data.json"))
    assert (info["val_images"], info["val_sizes"]) == (4, [2, 2])
    run("split", root=str(root))
    splits = read_splits(Path("results/tiny/data/split-seed0.json"))
    assert [part.tolist() for part in (splits.train, splits.val, splits.test)] == [[*range(6)], [6, 7, 8, 9], [10, 11]]


def test_duplicates_are_refused_on_request(run: Run) -> None:
    run("prepare", duplicates="error")
    with pytest.raises(DataError, match=r"^data\.duplicates: identical images \(1 "):
        run("split", duplicates="error")
    assert not Path("results/tiny/data/split-seed0.json").exists()


def test_a_stage_reads_the_splits_of_its_own_seed(run: Run, study: Callable[..., Study]) -> None:
    run("prepare")
    run("split")
    for suffix in (".json", ".npy"):
        shutil.copy(f"results/tiny/data/split-seed0{suffix}", f"results/tiny/data/split-seed3{suffix}")
    data = {"name": "imagefolder", "root": "images"}
    tiny = study(models=["resnet8x0.25"], seeds=[3], data=data, runtime={"device": "cpu"}, calibration={"images": 2})
    with pytest.raises(FileError, match=r"split-seed3\.json: drawn with seed 0; split again$"):
        execute("dense", tiny, Coordinates("resnet8x0.25", 3), source=Path("study.yaml"))

"""`oba sensitivity` on a net that the stages left."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from oba.analysis import sensitivity as module
from oba.analysis import stored
from oba.analysis.stored import read_net
from oba.cli import app
from oba.data.bundle import load_bundle
from oba.errors import ConfigError, FileError
from oba.files import read_json, write_json
from oba.layout import Coordinates, Layout
from oba.report.sensitivity import COLUMNS
from oba.stages.job import execute
from oba.study import dump_study, parse_study

STUDY = {
    "experiment": "tiny",
    "data": {"name": "digits"},
    "calibration": {"images": 32, "batch_size": 16},
    "models": ["resnet8x0.5"],
    "seeds": [0],
    "methods": [{"name": "power", "criterion": {"name": "magnitude", "normalizer": "none"}}],
    "keep": [0.5],
    "dense": {"epochs": 1, "batch_size": 512},
    "finetune": {"epochs": 1, "batch_size": 512},
    "runtime": {"device": "cpu"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The folder of a dense net and of one that was pruned."""
    study, project = parse_study(STUDY, "study"), tmp_path_factory.mktemp("project")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        write_json(Layout("tiny").study, dump_study(study))
        for command, at in [
            ("prepare", Coordinates()),
            ("split", Coordinates(seed=0)),
            ("trace", Coordinates("resnet8x0.5")),
            ("dense", Coordinates("resnet8x0.5", 0)),
            ("prune", Coordinates("resnet8x0.5", 0, "power", "iterative", "0.50")),
        ]:
            execute(command, study, at, source=Path("study.yaml"))
    torch.set_num_threads(threads)
    return project / "results" / "tiny" / "resnet8x0.5" / "seed0"


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """A copy to write in."""
    shutil.copytree(made.parents[1], tmp_path / "results" / "tiny")
    return tmp_path / "results" / "tiny" / "resnet8x0.5" / "seed0"


def test_table_and_picture_are_left_and_the_ends_are_printed(folder, monkeypatch):
    def without_test(*arguments, **options):
        return replace(load_bundle(*arguments, **options), test=None)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(stored, "load_bundle", without_test)
    done = CliRunner().invoke(app, ["sensitivity", str(folder / "dense"), "--keep", "0.5", "--keep", "1"])
    assert done.exit_code == 0, done.output
    left = folder / "sensitivity" / "dense-magnitude"
    assert sorted(path.name for path in left.iterdir()) == ["sensitivity.csv", "sensitivity.png"]
    frame = pd.read_csv(left / "sensitivity.csv")
    assert list(frame.columns) == COLUMNS
    whole = frame[frame.keep == 1]
    assert set(whole.val_top1) == {read_json(folder / "dense" / "metrics.json")["val"]["top1"]}
    with Image.open(left / "sensitivity.png") as picture:
        assert picture.size[0] > 500
    lines = done.output.splitlines()
    assert lines[0].startswith("Points of top-1 lost, of ")
    assert max(map(len, lines[:-2])) <= 80
    assert {str(name) for name in frame.group} == {line.split()[0] for line in lines[3:-2]}


def test_a_pruned_net_shrinks_from_what_is_left(folder):
    net, dense = read_net(folder / "power-iterative" / "keep0.50" / "pruned"), read_net(folder / "dense").groups
    assert net.name == "power-iterative-keep0.50-pruned"
    plan = read_json(folder / "power-iterative" / "keep0.50" / "pruned" / "plan.json")["plan"]["axes"]
    left = {entry["layer"]: len(entry["kept"]) for entry in plan if entry["axis"] == "out"}
    assert {group.name: len(group) for group in net.groups} == {group.name: len(group) for group in dense} | left
    assert left


def test_structures_are_traced_where_no_method_needed_them(folder):
    known = read_net(folder / "dense").groups
    (folder.parent / "structures.json").unlink()
    assert read_net(folder / "dense").groups == known


def test_a_criterion_has_the_options_of_the_study(folder):
    net = read_net(folder / "dense")
    assert net.criterion(None).options == net.criterion("magnitude").options
    assert net.criterion(None).options.normalizer == "none"
    assert net.criterion("taylor").name == "taylor"
    with pytest.raises(ConfigError, match="--criterion: unknown criterion 'size'"):
        net.criterion("size")


def test_what_is_no_net_is_refused(folder, tmp_path):
    for path in (folder, folder / "nothing", tmp_path):
        with pytest.raises(FileError, match=r"no stored net of an experiment; allowed: a folder with plan.json"):
            read_net(path)


def test_an_output_that_cannot_be_written_is_refused_before_the_work(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "score_structures", lambda *_, **__: pytest.fail("the work began"))
    (tmp_path / "file").touch()
    done = CliRunner().invoke(app, ["sensitivity", str(folder / "dense"), "--output", str(tmp_path / "file" / "x")])
    assert isinstance(done.exception, FileError)
    assert "choose another --output" in str(done.exception)


def test_an_interrupt_leaves_nothing(folder, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "recalibrate_norms", interrupt)
    done = CliRunner().invoke(app, ["sensitivity", str(folder / "dense"), "--keep", "0.5"])
    assert done.exit_code != 0
    assert not (folder / "sensitivity").exists()

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from oba.errors import FileError
from oba.report.build import build_report
from oba.report.collect import collect
from oba.report.page.facts import Facts
from oba.report.summarize import SUMMARY_COLUMNS, read_summary
from oba.report.table import summary_markdown

NAMES = ["summary.csv", "summary.md", "index.html", "tradeoff.png", "channels.png", "curves.png"]


def build(nets, directory):
    return build_report(nets, collect(nets), directory, ["oba-joint"], "digits", Facts())


def test_everything_is_written_and_returned(make_sweep, tmp_path):
    nets = make_sweep(controls=("scratch", "dense-longer"), warnings=True).write()
    paths = build(nets, tmp_path / "report")
    assert paths == [tmp_path / "report" / name for name in NAMES]
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == sorted(NAMES)
    assert paths[0].read_text().splitlines()[0] == ",".join(SUMMARY_COLUMNS)
    assert len(read_summary(paths[0])) * 2 == len(nets)
    for path in paths[3:]:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert min(image.size) > 500
            grey = np.asarray(image.convert("L"))
        assert len(np.unique(grey)) > 100
        assert 0.5 < (grey == 255).mean() < 0.99


def test_one_seed_leaves_deviations_blank(make_sweep, tmp_path):
    nets = make_sweep(seeds=(0,), methods=("oba-joint",), keep=(0.5,)).write()
    build(nets, tmp_path)
    header, dense, pruned = (tmp_path / "summary.csv").read_text().splitlines()
    values = dict(zip(header.split(","), pruned.split(","), strict=True))
    assert values["top1_percent_std"] == values["drop_points_std"] == values["versus_points_std"] == ""
    assert float(values["top1_percent"]) == pytest.approx(100 * collect(nets).test_top1[1])
    assert dense.split(",")[:7] == ["resnet20", "", "1", "dense", "dense", "", "1"]
    assert values["granularity"] == "structures"


def test_a_half_is_rounded_alike_in_the_file_and_where_it_is_read(make_sweep, tmp_path):
    nets = make_sweep().write()
    runs = collect(nets)
    # 100 · (0.6 - 0.5105) is a little more than 8.95 as it is computed, and a little less as it is written and read.
    runs["test_top1"] = np.where(runs.method == "dense", 0.6, 0.5105)
    csv, markdown, *_ = build_report(nets, runs, tmp_path / "report", ["oba-joint"], "digits", Facts())
    again = summary_markdown(read_summary(csv), runs, "digits")
    assert again == markdown.read_text()


def test_building_again_gives_the_same_bytes_whatever_the_users_settings(make_sweep, tmp_path):
    nets = make_sweep(controls=("scratch", "dense-longer"), keep=(0.5,)).write()
    first = [path.read_bytes() for path in build(nets, tmp_path / "a")]
    with matplotlib.rc_context({"font.size": 20, "axes.grid": True, "savefig.bbox": "tight"}):
        again = [path.read_bytes() for path in build(nets, tmp_path / "b")]
    assert first == again


@pytest.mark.parametrize("name", ["evaluation.json", "history.csv", "../pruned/plan.json"])
def test_damage_is_reported_before_anything_is_written(make_sweep, tmp_path, name):
    nets = make_sweep().write()
    (nets[3].directory / name).write_text("{")
    with pytest.raises(FileError, match=Path(name).name):
        build(nets, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_no_model_and_no_torch_is_imported():
    code = "import sys, oba.report.build, oba.report.terminal; print({'torch', 'mlflow'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"

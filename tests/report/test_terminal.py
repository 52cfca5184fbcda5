from __future__ import annotations

import pytest

from oba.errors import FileError
from oba.report.build import build_report
from oba.report.collect import collect
from oba.report.summarize import summarize
from oba.report.terminal import closing_text


@pytest.fixture
def report(make_sweep, tmp_path):
    runs = collect(make_sweep(controls=("scratch",)).write())
    directory = tmp_path / "report"
    directory.mkdir()
    runs.to_csv(directory / "runs.csv", index=False)
    summarize(runs, "oba-joint").to_csv(directory / "summary.csv", index=False)
    return directory


def test_the_last_words(report):
    lines = closing_text(report, "sqlite:///results/mlflow.db").splitlines()
    assert lines[0] == "resnet20"
    assert any("oba-joint, scratch" in line and "±" in line for line in lines)
    assert "  mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///results/mlflow.db" in lines
    assert lines[-1] == "  then open http://127.0.0.1:5000 and choose Model training, at the top left"
    for name in ("summary.md", "summary.csv", "runs.csv", "tradeoff.png", "channels.png", "curves.png"):
        assert len([line for line in lines if line.startswith(f"  {report / name} ")]) == 1
    assert not any(line != line.rstrip() or "\x1b" in line for line in lines)


@pytest.mark.parametrize("uri", ["http://tracking:5000", "https://tracking.example"])
def test_a_server_needs_no_command(report, uri):
    assert closing_text(report, uri).endswith(f"MLflow\n  open {uri}\n")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:s3cret@tracking:5000", "  open http://tracking:5000\n"),
        ("postgresql://me:s3cret@h/db", '  mlflow ui --host 127.0.0.1 --backend-store-uri "$MLFLOW_TRACKING_URI"\n'),
    ],
)
def test_a_password_is_not_shown(report, uri, shown):
    text = closing_text(report, uri)
    assert shown in text
    assert "s3cret" not in text


def test_the_command_can_be_pasted_into_a_shell(report):
    assert "--backend-store-uri 'sqlite:////my disk/mlflow.db'\n" in closing_text(
        report, "sqlite:////my disk/mlflow.db"
    )


def test_a_missing_report_is_named(tmp_path):
    with pytest.raises(FileError, match=r"summary\.csv: no such file"):
        closing_text(tmp_path, "sqlite:///mlflow.db")


def test_it_agrees_with_what_build_report_writes(make_sweep, tmp_path):
    nets = make_sweep(seeds=(0,), methods=("oba-joint",), keep=(0.5,), top5=False).write()
    runs = collect(nets)
    build_report(nets, runs, tmp_path / "out", ["oba-joint"], "digits")
    runs.to_csv(tmp_path / "out" / "runs.csv", index=False)
    assert "oba-joint" in closing_text(tmp_path / "out", "sqlite:///mlflow.db")

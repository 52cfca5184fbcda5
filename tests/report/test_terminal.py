from __future__ import annotations

import re
import socket

import pytest

from oba.errors import FileError
from oba.report import terminal
from oba.report.build import build_report
from oba.report.collect import collect
from oba.report.page.facts import Facts
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
    port = re.fullmatch(
        r"  mlflow ui --host 127.0.0.1 --port (\d+) --backend-store-uri sqlite:///results/mlflow.db", lines[-2]
    )
    assert port is not None
    assert lines[-1] == f"  then open http://127.0.0.1:{port[1]} and choose Model training, at the top left"
    assert lines[lines.index("Report") + 1].startswith(f"  {report / 'index.html'} ")
    for name in ("index.html", "summary.md", "summary.csv", "runs.csv", "tradeoff.png", "channels.png", "curves.png"):
        assert len([line for line in lines if line.startswith(f"  {report / name} ")]) == 1
    assert not any(line != line.rstrip() or "\x1b" in line for line in lines)


@pytest.mark.parametrize("uri", ["http://tracking:5000", "https://tracking.example"])
def test_a_server_needs_no_command(report, uri):
    assert f"MLflow\n  open {uri} and choose" in closing_text(report, uri)
    assert closing_text(report, uri, "#/experiments/7").endswith(f"MLflow\n  open {uri}/#/experiments/7\n")


def test_a_port_that_is_taken_is_not_proposed(report, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(terminal, "_PORT", port)
        *_, command, page = closing_text(report, "sqlite:///mlflow.db", "#/experiments/7").splitlines()
        proposed = int(command.split()[5])
        assert proposed > port
        assert page == f"  then open http://127.0.0.1:{proposed}/#/experiments/7"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:s3cret@tracking:5000", "  open http://tracking:5000 and"),
        ("postgresql://me:s3cret@h/db", ' --backend-store-uri "$MLFLOW_TRACKING_URI"\n'),
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
    build_report(nets, runs, tmp_path / "out", ["oba-joint"], "digits", Facts())
    runs.to_csv(tmp_path / "out" / "runs.csv", index=False)
    assert "oba-joint" in closing_text(tmp_path / "out", "sqlite:///mlflow.db")

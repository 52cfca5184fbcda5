"""Addresses on the command line: malformed ones and passwords end in one line, and no password is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from oba.errors import ConfigError, FileError
from oba.study import dump_study, parse_study, read_study, retyped
from oba.tracking import begin, stage_run, sync
from oba.validate import quick_check

SECRETS = [
    "http://me:s3cret@127.0.0.1:1",
    "http://s3cret@127.0.0.1:1",
    "http://127.0.0.1:1?password=s3cret",
    "postgresql://me:s3cret@127.0.0.1:1/db",
]
MALFORMED = ["http://127.0.0.1:port", "http://me:s3cret#1@127.0.0.1:1", "http://me:s3cret/1@127.0.0.1:1"]


@pytest.fixture
def oba(tmp_path, study_values):
    """Run the command line on a resolved study, in a folder of its own."""
    (tmp_path / "study.json").write_text(json.dumps(dump_study(parse_study(study_values, "study"))))

    def oba(uri, *arguments):
        command = [sys.executable, "-m", "oba", *arguments]
        paths = {"PYTHONPATH": str(Path(__file__).parents[2]), "MLFLOW_TRACKING_URI": uri}
        return subprocess.run(
            command, cwd=tmp_path, env=os.environ | paths, capture_output=True, text=True, check=False
        )

    return oba


@pytest.mark.parametrize("command", ["begin", "end", "sync"])
@pytest.mark.parametrize("uri", MALFORMED[:2])
def test_malformed_address_is_one_line(oba, command, uri):
    arguments = [command] if command == "sync" else [command, "--study", "study.json"]
    done = oba(uri, *arguments)
    assert done.returncode == ConfigError.exit_code
    assert done.stderr.startswith("error: MLFLOW_TRACKING_URI: the http address is malformed")
    assert done.stderr.count("\n") == 1
    assert "s3cret" not in done.stderr + done.stdout


@pytest.mark.parametrize("uri", MALFORMED)
def test_malformed_address_is_refused_before_the_first_job(study, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError, match=r"MLFLOW_TRACKING_URI: the http address is malformed") as caught:
        quick_check(study())
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("uri", [*SECRETS, *MALFORMED[1:]])
def test_study_takes_no_password(study_values, uri):
    with pytest.raises(ConfigError, match=r"^study: tracking.uri: an address with a password .*; allowed: ") as caught:
        parse_study(study_values | {"tracking": {"uri": uri}}, "study")
    assert str(caught.value).count("\n") == 0
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("tracking", [SECRETS[0], [SECRETS[0]], {"uri": [SECRETS[0]]}, {"uri": {"x": SECRETS[0]}}])
def test_password_in_the_wrong_place_is_not_told(study_values, tracking):
    with pytest.raises(ConfigError, match=r"^study: tracking") as caught:
        parse_study(study_values | {"tracking": tracking}, "study")
    assert "s3cret" not in str(caught.value)


def test_password_in_a_file_that_is_not_yaml_is_not_told(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(f"tracking: {{uri: {SECRETS[0]}, [}}\n")
    with pytest.raises(FileError, match="not valid YAML") as told:
        read_study(path)
    with pytest.raises(ConfigError, match="not valid YAML") as also_told:
        retyped({"tracking": f"{{uri: {SECRETS[0]}"})
    assert "s3cret" not in f"{told.value} {also_told.value}"


@pytest.mark.parametrize("uri", SECRETS)
def test_password_of_the_environment_is_told_nowhere(lab, tmp_path, caplog, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    results = tmp_path / "results"
    assert not begin("exp", uri, results)
    journal = results / "exp" / "journal" / "stage.jsonl"
    with stage_run(journal, lab.identity(), uri=uri, results_dir=results, every=0) as run:
        run.metrics({"loss": 1.0}, step=1)
    with pytest.raises(Exception, match="cannot be reached") as caught:
        sync([journal], uri, results)
    assert len(caplog.records) == 2
    assert "s3cret" not in caplog.text + str(caught.value)
    files = [path for path in results.rglob("*") if path.is_file()]
    assert journal in files
    assert [path for path in files if b"s3cret" in path.read_bytes()] == []

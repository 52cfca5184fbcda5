"""Two processes do not write one report at once, and what a killed one left half-written goes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from oba.errors import DataError
from oba.files import locked
from oba.report.rewriting import rewriting


def test_half_written_files_go_and_whole_ones_stay(tmp_path):
    for name in (".tradeoff.png.w6nhbpqw.part", "tradeoff.png", ".hidden"):
        (tmp_path / name).touch()
    with rewriting(tmp_path, tmp_path / "state"):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "state", "tradeoff.png"]


def test_a_second_process_waits(tmp_path):
    program = "import sys; from pathlib import Path; from oba.report.rewriting import rewriting\n"
    program += "print('waits', flush=True)\nwith rewriting(*map(Path, sys.argv[1:])): print('writes', flush=True)"
    arguments = [sys.executable, "-c", program, tmp_path, tmp_path / "state"]
    with rewriting(tmp_path, tmp_path / "state"):
        other = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == "waits\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=1)
    assert other.communicate(timeout=60)[0] == "writes\n"


def test_what_stands_is_marked_once_and_made_again(tmp_path):
    summary = tmp_path / "summary.md"
    summary.write_text("# Title\n\nTable.\n")
    for why in ("no disk", "no\nnet"):
        with pytest.raises(DataError), rewriting(tmp_path, tmp_path / "state"):
            raise DataError(why)
    assert summary.read_text() == ("> **Out of date:** it could not be made again (no net).\n\n# Title\n\nTable.\n")
    assert summary.stat().st_mtime == 1, "older than all that it is made from"
    with locked(tmp_path / "state", wait=False) as free:
        assert free


def test_a_page_that_stands_has_a_banner_and_one_only(tmp_path):
    page = tmp_path / "index.html"
    page.write_text("<body><main><h1>digits</h1></main>")
    for why in ("no disk", "<b>no\nnet"):
        with pytest.raises(DataError), rewriting(tmp_path, tmp_path / "state"):
            raise DataError(why)
    text = page.read_text()
    assert text.count("Out of date:") == 1
    assert "it could not be made again (&lt;b&gt;no net).</p>" in text
    assert text.endswith("<h1>digits</h1></main>")
    assert page.stat().st_mtime == 1


def test_where_no_report_stands_none_appears(tmp_path):
    with pytest.raises(DataError), rewriting(tmp_path / "report", tmp_path / "state"):
        raise DataError("no disk")
    assert not (tmp_path / "report").exists()

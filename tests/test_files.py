"""Files appear whole or not at all."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from filelock import FileLock, Timeout

from oba import files
from oba.errors import FileError


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "a" / "x.json"
    files.write_json(path, {"n": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"n": float("nan")})

    def half(temporary):
        temporary.write_text("{")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        files.write_atomic(path, half)
    assert files.read_json(path) == {"n": 1}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_tensors_round_trip_also_when_they_share_memory(tmp_path):
    base = torch.arange(6.0)
    files.write_tensors(tmp_path / "t.safetensors", {"a": base, "b": base[2:], "c": base.view(2, 3).T})
    read = files.read_tensors(tmp_path / "t.safetensors")
    assert torch.equal(read["b"], base[2:])
    assert torch.equal(read["c"], base.view(2, 3).T)


def test_what_tensors_are_about_makes_the_same_bytes_each_time(tmp_path):
    paths = [tmp_path / f"{number}.safetensors" for number in range(8)]
    for path in paths:
        files.write_tensors(path, {"a": torch.ones(2)}, {"model": "net", "seed": 0, "keep": "0.5"})
    assert len({path.read_bytes() for path in paths}) == 1


def test_missing_and_damaged_files_are_named(tmp_path):
    for read in (files.read_json, files.read_tensors):
        with pytest.raises(FileError, match="nothing: no such file"):
            read(tmp_path / "nothing")
        (tmp_path / "bad").write_text("{not")
        with pytest.raises(FileError, match="bad: not"):
            read(tmp_path / "bad")


def test_digests_are_of_content(tmp_path):
    assert files.digest_json({"a": 1, "b": 2}) == files.digest_json({"b": 2, "a": 1}) != files.digest_json({"a": 1})
    (tmp_path / "x").write_text("1")
    (tmp_path / "y").write_text("1")
    assert files.digest_file(tmp_path / "x") == files.digest_file(tmp_path / "y")


def test_a_lock_dies_with_its_process(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from oba.files import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "held\n"
    with pytest.raises(Timeout):
        FileLock(tmp_path / ".lock").acquire(timeout=0)
    process.kill()
    process.wait()
    with files.locked(tmp_path):
        assert (tmp_path / ".lock").exists()

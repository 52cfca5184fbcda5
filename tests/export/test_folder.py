"""The folder of an export is there complete or not at all, and costs nobody another folder."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from oba.errors import ConfigError, FileError
from oba.export.folder import _replace, new_folder


def fail(output: Path, error: Exception, *, overwrite: bool = False) -> None:
    with new_folder(output, overwrite=overwrite) as folder:
        (folder / "model.onnx").write_text("half")
        raise error


def fill(output: Path, text: str = "new", *, overwrite: bool = False) -> None:
    with new_folder(output, overwrite=overwrite) as folder:
        assert not (output / "model.onnx").exists() or (output / "model.onnx").read_text() != text
        (folder / "model.onnx").write_text(text)
        (folder / "metadata.json").write_text("{}")


@pytest.mark.parametrize("name", ["out", "deep/er/out"])
def test_a_folder_appears_complete_and_readable(tmp_path, name):
    fill(tmp_path / name)
    assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["metadata.json", "model.onnx"]
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o755
    assert [path.name for path in tmp_path.iterdir()] == [name.split("/")[0]]


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out")
    assert (tmp_path / "out" / "model.onnx").read_text() == "new"


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(KeyError):
        fail(tmp_path / "deep" / "out", KeyError())
    assert not list(tmp_path.iterdir())


def test_an_error_leaves_the_earlier_export(tmp_path):
    fill(tmp_path / "out", "old")
    with pytest.raises(KeyError):
        fail(tmp_path / "out", KeyError(), overwrite=True)
    assert (tmp_path / "out" / "model.onnx").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_earlier_export_is_replaced_only_when_asked(tmp_path):
    fill(tmp_path / "out", "old")
    (tmp_path / "out" / "model.pt2").write_text("of another format")
    with pytest.raises(ConfigError, match=r"holds an earlier export; allowed: another folder, or --overwrite"):
        fill(tmp_path / "out")
    fill(tmp_path / "out", overwrite=True)
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        "model.onnx": "new",
        "metadata.json": "{}",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("names", [["thesis.tex", "metadata.json"], ["model.safetensors", "plan.json"]])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_no_export_wrote_is_never_replaced(tmp_path, names, overwrite):
    (tmp_path / "out").mkdir()
    for name in names:
        (tmp_path / "out" / name).write_text("years of work")
    wrong = names[0]
    with pytest.raises(ConfigError, match=f"holds '{wrong}', which no export left there; allowed: a new or empty"):
        fill(tmp_path / "out", overwrite=overwrite)
    assert (tmp_path / "out" / wrong).read_text() == "years of work"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("a file")
    for output in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(ConfigError, match=r"--output: .*/out is a file; allowed: a folder, new or empty"):
            fill(output)


def test_what_appears_meanwhile_is_kept(tmp_path):
    def meanwhile() -> None:
        with new_folder(tmp_path / "out", overwrite=True):
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "other").write_text("of somebody else")

    with pytest.raises(ConfigError, match="no export left there"):
        meanwhile()
    assert (tmp_path / "out" / "other").read_text() == "of somebody else"


def test_a_rename_that_fails_gives_the_old_folder_back(tmp_path):
    fill(tmp_path / "out", "old")
    with pytest.raises(FileNotFoundError):
        _replace(tmp_path / "gone.part", tmp_path / "out")
    assert (tmp_path / "out" / "model.onnx").read_text() == "old"


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path):
    with pytest.raises(FileError, match=r"/out: no space left on device; free some space and run again"):
        fail(tmp_path / "out", OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(ChildProcessError):
        fail(tmp_path / "out", ChildProcessError())
    assert not list(tmp_path.iterdir())

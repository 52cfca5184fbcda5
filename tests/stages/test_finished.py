"""Finished work comes back whole, or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oba.files import write_text
from oba.stages import finished
from oba.stages.finished import intact, keep, put_back, restore

CONTENT = {
    "net/model.safetensors": "weights",
    "net/metrics.json": "{}",
    "other/metrics.json": "[]",
    "net/run.json": "1",
}


@pytest.fixture
def outputs(tmp_path):
    """Outputs of a job, two of them with the same name, the record last."""
    paths = [tmp_path / name for name in CONTENT]
    for path, text in zip(paths, CONTENT.values(), strict=True):
        write_text(path, text)
    return paths


@pytest.fixture
def folder(tmp_path):
    return tmp_path / ".state" / "key-finished"


def delete(outputs: list[Path]) -> None:
    for path in outputs:
        path.unlink(missing_ok=True)


def texts(outputs: list[Path]) -> list[str]:
    return [path.read_text() for path in outputs]


def no_links(self, target):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(target))


def others(outputs: list[Path]) -> set[str]:
    """Return what lies beside the outputs, such as temporary files."""
    return {path.name for output in outputs for path in output.parent.iterdir()} - {path.name for path in outputs}


@pytest.fixture
def large(monkeypatch):
    """Let every file count as a large one."""
    monkeypatch.setattr(finished, "COPIED", 0)


@pytest.mark.parametrize("kind", ["links", "small", "no links"])
def test_deleted_outputs_come_back_newer_than_before(outputs, folder, monkeypatch, caplog, kind):
    if kind != "small":
        monkeypatch.setattr(finished, "COPIED", 0)
    if kind == "no links":
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    assert keep(outputs, folder)
    assert (outputs[0].stat().st_nlink == 2) == (kind == "links")
    delete(outputs)
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    assert restore(outputs, folder)
    assert texts(outputs) == list(CONTENT.values())
    times = [path.stat().st_mtime_ns for path in outputs]
    assert times[0] > 10**9
    assert times == sorted(times), "the record is the newest"
    assert others(outputs) == set()
    assert not caplog.records
    delete(outputs)
    assert restore(outputs, folder), "what was restored is still kept"


def test_outputs_that_exist_are_replaced_whatever_they_are(outputs, folder):
    assert keep(outputs, folder)
    write_text(outputs[0], "half of another key's")
    outputs[1].unlink()
    assert restore(outputs, folder)
    assert texts(outputs) == list(CONTENT.values())
    assert restore(outputs, folder), "also where all are there"
    assert others(outputs) == set()


def test_nothing_was_kept(outputs, folder, caplog):
    assert not restore(outputs, folder)
    assert texts(outputs) == list(CONTENT.values())
    assert not caplog.records


def test_a_later_attempt_replaces_what_was_kept(outputs, folder):
    assert keep(outputs, folder)
    write_text(outputs[0], "later")
    assert keep(outputs, folder)
    delete(outputs)
    assert restore(outputs, folder)
    assert outputs[0].read_text() == "later"


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "0-model.safetensors").write_text("weightz"),
        lambda folder: (folder / "3-run.json").unlink(),
        lambda folder: (folder / "digests.json").unlink(),
        lambda folder: (folder / "digests.json").write_text("{"),
        lambda folder: (folder / "digests.json").write_text("[]"),
    ],
    ids=["changed file", "missing file", "no digests", "torn digests", "no mapping"],
)
def test_damaged_work_is_refused_with_a_warning_and_nothing_is_touched(outputs, folder, caplog, damage):
    assert keep(outputs, folder)
    delete(outputs)
    damage(folder)
    assert not restore(outputs, folder)
    assert not any(path.exists() for path in outputs)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["finished work not used"]
    assert str(folder) in caplog.text


def test_a_small_output_written_in_place_leaves_the_kept_one(outputs, folder):
    for path in outputs:
        os.utime(path, (100, 100))
    assert keep(outputs, folder)
    outputs[0].write_text("edited by hand")
    [kept] = [found for found in [intact(outputs[0], folder.parent)] if found]
    put_back(kept, outputs[0])
    assert texts(outputs) == list(CONTENT.values())
    assert outputs[0].stat().st_mtime == 100
    assert intact(outputs[0], folder.parent, digest="0" * 16) is None


@pytest.mark.usefixtures("large")
def test_a_large_output_written_in_place_spoils_the_kept_one_and_is_found_out(outputs, folder, caplog):
    assert keep(outputs, folder)
    outputs[0].write_text("edited by hand")
    assert intact(outputs[0], folder.parent) is None
    delete(outputs)
    assert not restore(outputs, folder)
    assert "damaged" in caplog.text


def test_an_output_that_was_deleted_meanwhile_keeps_none(outputs, folder, caplog):
    assert keep(outputs, folder)
    outputs[1].unlink()
    assert not keep(outputs, folder)
    assert f"outputs not kept for a restart: [Errno 2] No such file or directory: '{outputs[1]}'" in caplog.text
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "and leaves what was kept before"


def test_a_full_disk_does_not_fail_the_finished_job(outputs, folder, monkeypatch, caplog):
    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    monkeypatch.setattr("shutil.copyfile", full)
    assert not keep(outputs, folder)
    assert "no space left on device" in caplog.text
    assert list(folder.parent.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from oba.stages import finished

name, place = sys.argv[1].split(":")
calls = []

def killed_at(original, *arguments, **options):
    calls.append(arguments)
    if len(calls) == int(place):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)

module = {"second": finished, "write_json": finished, "rename": Path, "utime": os, "rmtree": finished.shutil}[name]
attribute = "_second" if name == "second" else name
original = getattr(module, attribute)
setattr(module, attribute, lambda *arguments, **options: killed_at(original, *arguments, **options))
folder, *outputs = map(Path, sys.argv[3:])
getattr(finished, sys.argv[2])(outputs, folder)
"""


def kill(where: str, call: str, outputs: list[Path], folder: Path) -> None:
    command = [sys.executable, "-c", KILLED, where, call, str(folder), *map(str, outputs)]
    assert subprocess.run(command).returncode == -signal.SIGKILL


@pytest.mark.parametrize("where", ["rmtree:1", "second:1", "second:3", "write_json:1", "rmtree:2", "rename:1"])
def test_a_kill_while_keeping_keeps_nothing_and_the_next_attempt_all(outputs, folder, where):
    kill(where, "keep", outputs, folder)
    assert not restore(outputs, folder)
    assert texts(outputs) == list(CONTENT.values())
    assert keep(outputs, folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    delete(outputs)
    assert restore(outputs, folder)
    assert texts(outputs) == list(CONTENT.values())


@pytest.mark.parametrize("where", ["second:1", "second:3", "utime:2", "utime:8"])
def test_a_kill_while_restoring_is_made_good_by_the_next_attempt(outputs, folder, where):
    assert keep(outputs, folder)
    delete(outputs)
    kill(where, "restore", outputs, folder)
    assert not outputs[-1].exists(), "the record comes last"
    assert restore(outputs, folder)
    assert texts(outputs) == list(CONTENT.values())
    assert others(outputs) == set()

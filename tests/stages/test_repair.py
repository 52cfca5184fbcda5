"""Lost and damaged files are noticed where they are read, and put back where that is possible."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from oba.errors import FileError
from oba.files import digest_file, read_json, write_json
from oba.layout import Coordinates
from oba.made import read_run
from oba.stages import repair
from oba.stages.repair import check_reported, checked

NET = Path("results/tiny/resnet8/seed0/dense")
DATA = Path("results/tiny/data")
READ = [DATA / "data.json", DATA / "split-seed0.json", DATA / "split-seed0.npy", NET / "model.safetensors"]
READ += [NET / "plan.json", NET / "evaluation.json", Path("results/tiny/resnet8/structures.json")]


def flip(path: Path) -> None:
    """Turn one bit around in place, as a disk does: the times stay."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGE = pytest.mark.parametrize("damage", [flip, cut, Path.unlink], ids=["flipped bit", "cut off", "deleted"])


def test_records_say_what_was_left(bench):
    for name in ("prepare", "split", "trace", "dense", "evaluate_dense"):
        *files, record = bench.outputs(name)
        assert read_run(record).outputs == {path.name: digest_file(path) for path in files}


@DAMAGE
@pytest.mark.parametrize("path", READ, ids=lambda path: path.name)
def test_a_damaged_input_is_put_back(bench, caplog, path, damage):
    before, time = path.read_bytes(), path.stat().st_mtime_ns
    damage(path)
    assert checked(path, bench.layout) == digest_file(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, time)
    [warning] = caplog.messages
    assert warning.startswith(f"{path}: was ")
    assert warning.endswith("; put back")


@DAMAGE
def test_without_an_intact_copy_it_is_one_line_and_the_file_is_moved_aside(bench, damage):
    weights = NET / "model.safetensors"
    [kept] = bench.state("dense").glob("*-finished/*-model.safetensors")
    cut(kept)
    damage(weights)
    left = weights.read_bytes() if weights.exists() else None
    bench.forget("evaluate_dense")
    with pytest.raises(FileError) as caught:
        bench.execute("evaluate_dense")
    told = "lost or damaged, and no intact copy is kept; run again: it is made again"
    assert caught.value.lines() == [f"error: evaluate dense resnet8 seed0: {weights}: {told}"]
    assert caught.value.exit_code == 9
    assert not weights.exists()
    assert left is None or weights.with_name("model.safetensors.damaged").read_bytes() == left
    bench.execute("dense", "evaluate_dense")


def test_a_foreign_plan_is_replaced_by_the_nets_own(bench):
    plan = NET / "plan.json"
    own = plan.read_bytes()
    card = read_json(plan)["card"] | {"name": "resnet20"}
    write_json(plan, read_json(plan) | {"card": card})
    bench.forget("evaluate_dense")
    bench.execute("evaluate_dense")
    assert plan.read_bytes() == own


@DAMAGE
@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
def test_images_that_turn_out_to_be_damaged_are_put_back_and_the_job_goes_on(bench, name, damage):
    images = DATA / name
    before, splits = images.read_bytes(), bench.contents("split")
    damage(images)
    bench.forget("split")
    bench.execute("split")
    assert images.read_bytes() == before
    record = bench.outputs("split")[-1]
    assert {k: v for k, v in bench.contents("split").items() if k != record} == {
        k: v for k, v in splits.items() if k != record
    }


def test_other_errors_of_files_are_told_as_they_are(bench, monkeypatch):
    def broken(*_):
        raise FileError("something else")

    monkeypatch.setattr("oba.stages.split.write_splits", broken)
    bench.forget("split")
    with pytest.raises(FileError, match=r"^something else$"):
        bench.execute("split")


@DAMAGE
def test_a_damaged_record_is_put_back_where_its_files_are_read(bench, damage):
    record = NET / "run.json"
    before = record.read_bytes()
    damage(record)
    checked(NET / "plan.json", bench.layout)
    assert damage is Path.unlink or record.read_bytes() == before


def test_every_flipped_bit_of_a_record_is_noticed(bench):
    record = NET / "run.json"
    content = record.read_bytes()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        record.write_bytes(changed)
        try:
            read_run(record)
        except FileError:
            continue
        # Nothing but white space, which says nothing.
        assert read_json(record) == read_json_of(content)


def read_json_of(content: bytes) -> object:
    path = Path("whole.json")
    path.write_bytes(content)
    return read_json(path)


def test_a_damaged_record_without_a_copy_is_moved_aside(bench):
    record = NET / "run.json"
    for kept in bench.state("dense").glob("*-finished/*-run.json"):
        kept.unlink()
    cut(record)
    with pytest.raises(FileError, match=f"^{record}: lost or damaged, and no intact copy is kept; run again"):
        checked(NET / "plan.json", bench.layout)
    assert not record.exists()
    assert record.with_name("run.json.damaged").exists()


def test_a_job_whose_outputs_are_damaged_is_not_done(bench):
    before = bench.contents("trace")
    flip(bench.outputs("trace")[0])
    bench.execute("trace")
    assert bench.contents("trace") == before
    flip(bench.outputs("trace")[-1])
    bench.execute("trace")
    assert bench.contents("trace") == before


def test_a_file_of_another_study_is_compared_and_left_alone(bench):
    other = Path("results/other/dense")
    other.mkdir(parents=True)
    for path in bench.outputs("dense"):
        (other / path.name).write_bytes(path.read_bytes())
    weights = other / "model.safetensors"
    assert checked(weights, bench.layout) == digest_file(NET / "model.safetensors")
    flip(weights)
    with pytest.raises(FileError, match=f"^{weights}: not what {other / 'run.json'} says that it was; run the study"):
        checked(weights, bench.layout)
    assert weights.exists()


def test_a_file_without_a_record_is_believed_and_a_missing_one_named(bench):
    assert checked(Path("net.safetensors"), bench.layout) == digest_file(Path("net.safetensors"))
    with pytest.raises(FileError, match=r"^gone: no such file; the stage that makes it has not run"):
        checked(Path("gone"), bench.layout)


def test_what_the_report_reads_is_compared(bench):
    before = (NET / "history.csv").read_bytes()
    flip(NET / "history.csv")
    check_reported(bench.layout, [Coordinates("resnet8", 0, variant="dense")])
    assert (NET / "history.csv").read_bytes() == before


def test_a_failing_disk_moves_no_file(bench, monkeypatch):
    weights = NET / "model.safetensors"

    def failing(path: Path) -> str:
        try:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        except OSError as error:
            raise FileError(f"{path}: input/output error") from error

    monkeypatch.setattr(repair, "digest_file", failing)
    for ask in (lambda: checked(weights, bench.layout), lambda: repair.is_intact(weights)):
        with pytest.raises(FileError, match="input/output error"):
            ask()
    assert weights.exists()

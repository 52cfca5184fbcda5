"""Full, read-only and limited disks end a job in one line, and the same job goes on once they are mended."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oba.errors import FileError

JOBS = ["prepare", "split", "trace", "dense", "evaluate_dense"]
NAMES = {
    "prepare": "prepare",
    "split": "split seed0",
    "trace": "trace resnet8",
    "dense": "dense resnet8 seed0",
    "evaluate_dense": "evaluate dense resnet8 seed0",
}


def mount(*arguments: object) -> bool:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode == 0


@pytest.fixture
def disk(bench) -> Iterator[Path]:
    """Move the results to a file system of their own, of 20 MB."""
    results = bench.root / "results"
    shutil.move(results, bench.root / "moved")
    results.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=20m", "none", results):
        pytest.skip("mounting a small file system needs root")
    shutil.copytree(bench.root / "moved", results, dirs_exist_ok=True)
    yield results
    subprocess.run(["umount", "--lazy", str(results)], check=True)


def fill(disk: Path) -> None:
    """Leave no space on a disk."""
    with (disk / "filler").open("wb") as stream:
        block = bytes(1 << 16)
        try:
            while True:
                os.write(stream.fileno(), block)
        except OSError:
            pass


def failure_of(bench, job: str) -> str:
    """Run a job that fails; return the one line that it ends with."""
    with pytest.raises(FileError) as caught:
        bench.execute(job)
    assert caught.value.exit_code == 9
    [line] = caught.value.lines()
    return line


@pytest.mark.parametrize("job", JOBS)
def test_a_full_disk(bench, disk, job):
    record = bench.outputs(job)[-1]
    before = {path: content for path, content in bench.contents(job).items() if path != record}
    bench.forget(job)
    fill(disk)
    line = failure_of(bench, job)
    assert line.startswith(f"error: {NAMES[job]}: ")
    assert "no space left on device; free some space and run again: finished jobs and epochs are kept" in line
    assert not record.exists()
    (disk / "filler").unlink()
    bench.execute(job)
    after = bench.contents(job)
    if job not in {"dense", "evaluate_dense"}:  # their measures hold times
        assert {path: after[path] for path in before} == before
    assert record.exists()


@pytest.mark.parametrize("job", JOBS)
def test_a_read_only_disk(bench, disk, job):
    bench.forget(job)
    before = sorted(disk.rglob("*"))
    assert mount("-o", "remount,ro", disk)
    line = failure_of(bench, job)
    assert line.startswith(f"error: {NAMES[job]}: results/tiny/")
    assert line.endswith("read-only file system; choose a folder that can be written, or remount the file system")
    assert mount("-o", "remount,rw", disk)
    assert sorted(disk.rglob("*")) == before
    bench.execute(job)


def test_a_finished_job_is_finished_on_a_full_disk(bench, disk):
    fill(disk)
    before = bench.contents(*JOBS)
    bench.execute(*JOBS)
    assert bench.contents(*JOBS) == before


def test_a_lost_file_on_a_full_disk(bench, disk):
    weights = bench.outputs("dense")[0]
    weights.unlink()
    bench.forget("evaluate_dense")
    fill(disk)
    assert f"{weights.name}: no space left on device; free some space" in failure_of(bench, "evaluate_dense")
    (disk / "filler").unlink()
    bench.execute("evaluate_dense")
    assert weights.exists()


def test_a_limit_on_the_size_of_files(bench):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    bench.forget("dense")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        line = failure_of(bench, "dense")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "model.safetensors: file too large; raise the limit on the size of files (`ulimit -f`)" in line
    bench.execute("dense")


FAILING = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

ssize_t read(int fd, void *buffer, size_t count) {
    static ssize_t (*original)(int, void *, size_t);
    char link[64], path[PATH_MAX];
    if (!original) original = dlsym(RTLD_NEXT, "read");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0) {
        path[length] = 0;
        const char *bad = getenv("BAD_FILE");
        size_t end = bad ? strlen(bad) : 0;
        if (end && (size_t)length >= end && !strcmp(path + length - end, bad)) {
            errno = EIO;
            return -1;
        }
    }
    return original(fd, buffer, count);
}
"""


@pytest.fixture(scope="session")
def failing_disk(tmp_path_factory) -> Path:
    """A library to be preloaded: reading the file that BAD_FILE ends with fails like a broken disk."""
    if shutil.which("gcc") is None:
        pytest.skip("letting reads fail needs gcc")
    folder = tmp_path_factory.mktemp("preload")
    (folder / "failing.c").write_text(FAILING)
    library = folder / "failing.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, folder / "failing.c", "-ldl"], check=True)
    return library


@pytest.mark.parametrize("name", ["dense/model.safetensors", "dense/run.json", "data/data.json"])
def test_a_disk_that_fails_while_it_is_read(bench, failing_disk, name):
    before = {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
    bench.forget("evaluate_dense")
    evaluation = {path: content for path, content in before.items() if not path.exists()}
    command = ["-m", "oba", "evaluate", "--study", "results/tiny/study.json", "--model", "resnet8", "--seed", "0"]
    done = subprocess.run(
        [sys.executable, *command, "--variant", "dense"],
        env=os.environ
        | {"LD_PRELOAD": str(failing_disk), "BAD_FILE": name, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 9, done.stderr
    told = "input/output error; the disk or its network connection is failing; check it before the next run"
    assert done.stderr.startswith("error: evaluate dense resnet8 seed0: results/tiny/")
    assert done.stderr.endswith(f"{name}: {told}\n")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    left = [path for path in Path("results").rglob("*") if path.is_file()]
    assert {path: path.read_bytes() for path in left if path in before} | evaluation == before, "nothing is moved"

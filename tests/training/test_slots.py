"""One GPU, one job: on pretended devices, with real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from oba.training import slots
from oba.training.slots import device_slot, visible_devices, visible_gpus

ROOT = Path(__file__).parents[2]
NOBODY = 65534
JOB = """
import logging, os, sys
from pathlib import Path
from oba.training.slots import device_slot

logging.basicConfig(format="%(message)s")
folder, user, *devices = sys.argv[1:]
os.umask(0o077)
if user != "self":
    os.setgid(int(user))
    os.setuid(int(user))
with device_slot("cuda", devices=devices, folder=Path(folder)) as device:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == device
    print(device, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def _eight_gpus_and_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_installed", lambda: 8)
    monkeypatch.setattr(slots, "_POLL", 0.01)
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)


class Job:
    """A process that holds a device until it is told to end."""

    def __init__(self, folder: Path, *devices: str, user: str = "self", **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", JOB, str(folder), user, *devices],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def device(self) -> str:
        """Return the job's device, once it has one."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def says(self) -> str:
        """Return the first line of the job's log."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def end(self) -> str:
        """Let the job finish; return what else its log says."""
        _, said = self.process.communicate("\n")
        assert self.process.returncode == 0, said
        return said

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@contextmanager
def jobs() -> Iterator[ExitStack]:
    """Kill what is left of the jobs that are started in the block."""
    with ExitStack() as stack:
        yield stack


def start(stack: ExitStack, *arguments, **options) -> Job:
    job = Job(*arguments, **options)
    stack.callback(job.kill)
    return job


def test_jobs_hold_different_devices_and_the_next_waits_and_says_so_once(tmp_path):
    with jobs() as stack:
        first, second = start(stack, tmp_path, "2", "5"), start(stack, tmp_path, "2", "5")
        assert {first.device(), second.device()} == {"2", "5"}
        third = start(stack, tmp_path, "2", "5")
        assert third.says() == (
            f"waiting for a GPU: other jobs hold {tmp_path}/oba-gpu-2.lock, {tmp_path}/oba-gpu-5.lock\n"
        )
        time.sleep(1.2)  # it looks several times meanwhile
        assert third.process.poll() is None
        second.end()
        assert third.device() in {"2", "5"}
        assert third.end() == ""
        first.end()


def test_a_killed_job_frees_its_device(tmp_path):
    with jobs() as stack:
        holder = start(stack, tmp_path, "0")
        assert holder.device() == "0"
        waiting = start(stack, tmp_path, "0")
        assert "waiting" in waiting.says()
        holder.kill()
        assert waiting.device() == "0"


def test_of_many_jobs_no_two_hold_one_device_at_once(tmp_path):
    """Each job holds its device for a moment and notes when; the moments of one device must not overlap."""
    program = """
import sys, time
from pathlib import Path
from oba.training import slots

slots._POLL = 0.002
for _ in range(10):
    with slots.device_slot("auto", devices=["0", "1"], folder=Path(sys.argv[1])) as device:
        start = time.monotonic()
        time.sleep(0.005)
        print(device, start, time.monotonic(), flush=True)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(4)
    ]
    lines = [line.split() for process in processes for line in process.communicate()[0].splitlines()]
    assert len(lines) == 40
    assert {device for device, *_ in lines} == {"0", "1"}
    for name in ("0", "1"):
        held = sorted((float(start), float(end)) for device, start, end in lines if device == name)
        assert all(end <= start for (_, end), (start, _) in pairwise(held))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
@pytest.mark.parametrize("users", [("self", str(NOBODY)), (str(NOBODY), "self"), ("1234", str(NOBODY))])
def test_users_share_the_locks(users):
    with tempfile.TemporaryDirectory() as name, jobs() as stack:
        Path(name).chmod(0o1777)
        holder = start(stack, Path(name), "0", user=users[0])
        assert holder.device() == "0"
        waiting = start(stack, Path(name), "0", user=users[1])
        assert "waiting" in waiting.says()
        holder.end()
        assert waiting.device() == "0"
        assert waiting.end() == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_a_lock_that_another_user_is_still_making_counts_as_held():
    with tempfile.TemporaryDirectory() as name, jobs() as stack:
        Path(name).chmod(0o1777)
        half_made = Path(name, "oba-gpu-0.lock")
        half_made.touch(mode=0o600)
        waiting = start(stack, Path(name), "0", user=str(NOBODY))
        assert "waiting" in waiting.says()
        half_made.chmod(0o666)
        assert waiting.device() == "0"


def test_a_folder_where_no_lock_can_be_made_is_not_waited_for(tmp_path):
    missing = tmp_path / "missing"
    with pytest.raises(FileNotFoundError, match="missing"), device_slot("cuda", folder=missing):
        pass


def test_taking_a_slot_makes_its_lock_file_young(tmp_path):
    lock = tmp_path / "oba-gpu-0.lock"
    lock.touch()
    os.utime(lock, (1, 1))
    with device_slot("cuda", folder=tmp_path):
        assert lock.stat().st_mtime > 10**9


def test_allocations_of_a_scheduler_do_not_exclude_each_other_but_their_jobs_do(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with jobs() as stack:
        assert start(stack, tmp_path, "0").device() == "0"
        assert start(stack, tmp_path, "0", SLURM_JOB_ID="1").device() == "0"
        assert start(stack, tmp_path, "0", SLURM_JOB_ID="2", SLURM_STEP_ID="0").device() == "0"
        assert start(stack, tmp_path, "0", SLURM_JOB_ID="2", SLURM_STEP_ID="1").device() == "0"
        assert "oba-gpu-slurm-1-batch-0.lock" in start(stack, tmp_path, "0", SLURM_JOB_ID="1").says()
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        assert "oba-gpu-0.lock" in start(stack, tmp_path, "0", SLURM_JOB_ID="3").says(), "not set by the scheduler"


@pytest.mark.parametrize("before", [None, "3,4"])
def test_cuda_sees_the_chosen_device_alone_and_the_environment_is_restored(tmp_path, monkeypatch, before):
    if before:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    with device_slot("auto", folder=tmp_path) as device:
        expected = "3" if before else "0"
        assert device == os.environ["CUDA_VISIBLE_DEVICES"] == expected
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before
    with device_slot("auto", devices=[expected], folder=tmp_path) as again:
        assert again == expected


@pytest.mark.parametrize(("device", "devices"), [("cpu", ["0"]), ("auto", []), ("cuda", [])])
def test_without_gpus_or_need_there_is_no_slot(tmp_path, device, devices):
    with device_slot(device, devices=devices, folder=tmp_path) as chosen:
        assert chosen is None
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert list(tmp_path.iterdir()) == []


def test_a_slot_after_cuda_has_started_is_a_bug(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(AssertionError, match="has read its devices already"), device_slot("cuda", folder=tmp_path):
        pass


@pytest.mark.parametrize(
    ("value", "devices"),
    [
        (None, ["0", "1", "2", "3", "4", "5", "6", "7"]),
        ("2,5", ["2", "5"]),
        (" 5 , 2", ["5", "2"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1,-1,2", ["1"]),
        ("1,8,2", ["1"]),
        ("GPU-8932f937,MIG-1,3", ["GPU-8932f937", "MIG-1", "3"]),
    ],
)
def test_visible_devices_are_those_that_cuda_would_see(monkeypatch, value, devices):
    if value is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_devices() == devices
    assert visible_gpus() == len(devices)


INSTALLED = slots._installed


def fake_driver(folder: Path, script: str) -> str:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{folder}:/bin:/usr/bin"


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has a driver of its own")
@pytest.mark.parametrize(
    ("script", "count"),
    [
        ("printf 'GPU 0: A100 (UUID: GPU-1)\n  MIG 1g.5gb Device 0: (UUID: MIG-1)\nGPU 1: A100 (UUID: GPU-2)\n'", 2),
        ("echo 'NVIDIA-SMI has failed'; exit 9", 0),
    ],
)
def test_the_driver_is_asked_where_there_are_no_device_files(tmp_path, monkeypatch, script, count):
    monkeypatch.setenv("PATH", fake_driver(tmp_path, script))
    assert INSTALLED() == count
    monkeypatch.setenv("PATH", "/nowhere")
    assert INSTALLED() == 0


def test_device_files_are_counted_without_asking_the_driver(tmp_path, monkeypatch):
    for name in ("nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setenv("PATH", fake_driver(tmp_path, "echo 'GPU 0:'"))
    assert INSTALLED(tmp_path) == 2


def test_counting_gpus_does_not_import_torch():
    program = "import sys; from oba.training.slots import visible_gpus; visible_gpus(); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, text=True) == "False\n"

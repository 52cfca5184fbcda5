"""GPUs that several jobs want, of one user or of many: on pretended devices, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from oba.training.slots import device_slots

pytestmark = pytest.mark.usefixtures("_eight_gpus_and_no_scheduler")

ROOT = Path(__file__).parents[2]
NOBODY = 65534
JOB = """
import logging, os, sys
from pathlib import Path
from oba.training.slots import device_slots

logging.basicConfig(format="%(message)s")
folder, user, count, *devices = sys.argv[1:]
os.umask(0o077)
if user != "self":
    os.setgid(int(user))
    os.setuid(int(user))
with device_slots("cuda", int(count), devices=devices, folder=Path(folder)) as held:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(held)
    print(*held, flush=True)
    sys.stdin.readline()
"""


class Job:
    """A process that holds a device until it is told to end."""

    def __init__(self, folder: Path, *devices: str, user: str = "self", count: int = 1, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", JOB, str(folder), user, str(count), *devices],
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


def test_of_jobs_that_want_one_or_more_no_two_hold_one_device_at_once(tmp_path):
    """Each job holds its device for a moment and notes when; the moments of one device must not overlap."""
    program = """
import sys, time
from pathlib import Path
from oba.errors import ConfigError
from oba.training import slots

slots._POLL = 0.002
for _ in range(10):
    with slots.device_slots("auto", int(sys.argv[2]), devices=["0", "1", "2"], folder=Path(sys.argv[1])) as held:
        start = time.monotonic()
        time.sleep(0.005)
        for device in held:
            print(device, start, time.monotonic(), flush=True)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), count],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for count in "11223"
    ]
    lines = [line.split() for process in processes for line in process.communicate()[0].splitlines()]
    assert len(lines) == 10 * (1 + 1 + 2 + 2 + 3), "nobody waits for ever"
    for name in ("0", "1", "2"):
        held = sorted((float(start), float(end)) for device, start, end in lines if device == name)
        assert all(end <= start for (_, end), (start, _) in pairwise(held))


def test_many_jobs_get_their_turn_on_few_devices_though_every_other_holder_is_killed(tmp_path):
    devices = ("0", "1", "2")

    def hold(number: int) -> tuple[str, float, float]:
        """Return a device and a part of the time in which one job held it."""
        job = start(stack, tmp_path, *devices, count=1)
        device, begin = job.device(), time.monotonic()
        time.sleep(0.02)
        end = time.monotonic()
        job.kill() if number % 2 else job.end()
        return device, begin, end

    with jobs() as stack, ThreadPoolExecutor(12) as pool:
        held = sorted(pool.map(hold, range(12)))
    assert {device for device, _, _ in held} <= {*devices}
    assert all(first[0] != second[0] or first[2] <= second[1] for first, second in pairwise(held)), (
        "no two at once on one device"
    )
    with device_slots("auto", 3, devices=devices, folder=tmp_path) as free:
        assert free == [*devices]


def test_a_job_that_wants_several_is_not_passed_by(tmp_path):
    with jobs() as stack:
        first, second = start(stack, tmp_path, "2", "5", "7"), start(stack, tmp_path, "2", "5", "7")
        taken = {first.device(), second.device()}
        many = start(stack, tmp_path, "2", "5", "7", count=2)
        assert many.says().startswith(f"waiting for 2 GPUs: other jobs hold {tmp_path}/oba-gpu-2.lock, ")
        later = start(stack, tmp_path, "2", "5", "7")
        assert later.says().startswith("waiting for a GPU: ")
        first.end()
        held = many.device().split()
        assert held == sorted(held)
        assert len(held) == 2
        assert len(taken & {*held}) == 1, "the one that was free all the time, and the one that came free"
        many.end()
        assert later.device()


def test_a_killed_job_in_the_queue_gives_up_its_place_and_what_it_held(tmp_path):
    with jobs() as stack:
        holder = start(stack, tmp_path, "0", "1")
        assert holder.device() == "0"
        many = start(stack, tmp_path, "0", "1", count=2)
        assert "waiting for 2 GPUs" in many.says()
        many.kill()
        assert start(stack, tmp_path, "0", "1").device() == "1"


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

"""How busy the machine is: sampled into the journal, and never a reason for a stage to fail."""

from __future__ import annotations

import errno
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from oba.tracking import run as run_module
from oba.tracking import stage_run, sync
from oba.tracking.journal import Journal, last_points, read_attempt
from oba.tracking.system import CPU, Sampler

DEAD = "http://127.0.0.1:1"


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(run_module, "SAMPLE_SECONDS", 0.01)


def sampled(lab):
    attempt = read_attempt(lab.journal())
    assert attempt is not None
    return sorted(step for key, step in last_points(attempt.events, "metrics") if key == CPU)


def wait_for(samples, lab):
    while len(sampled(lab)) < samples:
        time.sleep(0.01)


def stage(lab, **options):
    return stage_run(lab.journal(), lab.identity(), uri=DEAD, results_dir=lab.results, **options)


def test_samples_survive_an_outage_and_go_on_after_a_restart(lab, fast):
    def interrupted():
        with stage(lab, sampled=True) as run:
            run.metrics({"seconds": 1.0}, step=50)
            wait_for(2, lab)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    first = sampled(lab)
    with stage(lab, sampled=True):
        wait_for(len(first) + 2, lab)
    steps = sampled(lab)
    assert steps == list(range(len(steps)))
    assert not [thread for thread in threading.enumerate() if thread.name == "system metrics"]
    sync([lab.journal()], lab.uri, lab.results)
    history = [point for point in lab.history(lab.run()) if point[0] == CPU]
    assert [step for _, step, _, _ in history] == steps
    assert all(0 <= value <= 100 for *_, value in history)
    names = {key for key in lab.run().data.metrics if key.startswith("system/")}
    assert names == {CPU, "system/seconds", *(f"system/system_memory_usage_{unit}" for unit in UNITS)}


UNITS = ("megabytes", "percentage")


def test_a_short_stage_has_none_and_neither_has_one_that_does_not_want_them(lab, fast, monkeypatch):
    with stage(lab):
        time.sleep(0.05)
    assert sampled(lab) == []
    monkeypatch.setattr(run_module, "SAMPLE_SECONDS", 60)
    with stage(lab, sampled=True):
        pass
    assert sampled(lab) == []


def test_a_full_disk_ends_sampling_and_is_told_by_the_stage(lab, fast, monkeypatch):
    write = Journal.write

    def full(self, kind, *, gives_up=True, **fields):
        if not gives_up:
            raise OSError(errno.ENOSPC, "disk full")
        write(self, kind, gives_up=gives_up, **fields)

    monkeypatch.setattr(Journal, "write", full)
    with stage(lab, sampled=True) as run:
        while any(thread.name == "system metrics" for thread in threading.enumerate()):
            time.sleep(0.01)
        run.metrics({"loss": 1.0})
    attempt = read_attempt(lab.journal())
    assert attempt is not None
    assert (attempt.state[0], last_points(attempt.events, "metrics").keys()) == ("FINISHED", {("loss", 0)})


def test_threads_write_whole_lines(tmp_path, lab):
    journal = Journal(tmp_path / "a.jsonl")
    journal.start(lab.identity())

    def write(name):
        for step in range(200):
            journal.write("metrics", step=step, values={name: step})

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    attempt = read_attempt(journal.path)
    assert attempt is not None
    assert len(last_points(attempt.events, "metrics")) == 800


class FakeNvml(SimpleNamespace):
    """NVML of a machine with three GPUs, of which the last one does not tell its power."""

    class NVMLError(Exception):
        pass

    def nvmlInit(self):
        pass

    def nvmlDeviceGetCount(self):
        return 3

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetHandleByUUID(self, name):
        return {"GPU-b": 1}[name]

    def nvmlDeviceGetMemoryInfo(self, index):
        return SimpleNamespace(used=(index + 1) * 1e9, total=8e9)

    def nvmlDeviceGetUtilizationRates(self, index):
        return SimpleNamespace(gpu=10 * index)

    def nvmlDeviceGetPowerUsage(self, index):
        if index == 2:
            raise self.NVMLError
        return 50_000


@pytest.mark.parametrize(("chosen", "used"), [(None, [10, 20, 30]), ("2,0", [30, 10]), ("GPU-b", [20]), ("", [])])
def test_only_the_jobs_gpus_are_told_in_cudas_order(monkeypatch, chosen, used):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    samples, done = [], threading.Event()
    sampler = Sampler(lambda values, number: samples.append(values) or done.set(), 0, 0.01)
    assert done.wait(60)
    sampler.stop()
    found = {key: value for key, value in samples[0].items() if "gpu" in key}
    assert [found[f"system/gpu_{i}_memory_usage_megabytes"] / 100 for i in range(len(used))] == used
    assert len([key for key in found if "utilization" in key]) == len(used)


def test_a_machine_whose_nvml_fails_has_no_gpus(monkeypatch):
    nvml = FakeNvml()

    def fail():
        raise FakeNvml.NVMLError

    nvml.nvmlInit = fail
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    samples, done = [], threading.Event()
    sampler = Sampler(lambda values, number: samples.append(values) or done.set(), 0, 0.01)
    assert done.wait(60)
    sampler.stop()
    assert not [key for key in samples[0] if "gpu" in key]

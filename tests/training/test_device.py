from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from oba.errors import ConfigError
from oba.seeds import derive_seed
from oba.training.device import (
    fastest_kernels,
    keep_freed_memory,
    make_deterministic,
    pick_device,
    reseed,
    seeded,
    set_threads,
)


@pytest.mark.parametrize(
    ("name", "available", "kind"),
    [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_auto_takes_a_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, name: str, available: bool, kind: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert pick_device(name).type == kind


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"runtime\.device: 'cuda', but .* allowed: 'auto', 'cpu'"):
        pick_device("cuda")


PROGRAM = """
import resource, sys, torch
from oba.training.device import keep_freed_memory

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    keep_freed_memory()
faults(10)
print(faults(10))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_taken_again_without_page_faults() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    kept, returned = (
        int(subprocess.check_output([sys.executable, "-c", PROGRAM, word], env=environment, text=True))
        for word in ("keep", "return")
    )
    assert kept < 100
    assert returned > 10 * kept


def test_where_there_is_no_glibc_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda *setting: calls.append(setting))
    monkeypatch.setattr("ctypes.CDLL", lambda _: library)
    keep_freed_memory()
    assert calls == [(-1, 1 << 30), (-3, 1 << 30)]
    del library.mallopt
    keep_freed_memory()
    assert len(calls) == 2


@pytest.fixture
def _settings_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default")
    torch.utils.deterministic.fill_uninitialized_memory = True  # pyright: ignore
    torch.backends.cudnn.benchmark = benchmark
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@pytest.mark.usefixtures("_settings_restored")
def test_threads_are_set() -> None:
    set_threads(3)
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("_settings_restored")
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_only_gpus_need_other_kernels(kind: str) -> None:
    make_deterministic(torch.device(kind))
    on = kind == "cuda"
    assert torch.are_deterministic_algorithms_enabled() == on
    assert torch.is_deterministic_algorithms_warn_only_enabled() == on
    assert torch.backends.cudnn.benchmark == (not on)
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if on else None)


@pytest.mark.usefixtures("_settings_restored")
def test_determinism_can_be_switched_off_for_speed() -> None:
    torch.backends.cudnn.benchmark = False
    make_deterministic(torch.device("cuda"), enabled=False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


@pytest.mark.usefixtures("_settings_restored")
@pytest.mark.parametrize("mode", ["default", "warn", "error"])
def test_the_fastest_kernels_are_borrowed_also_through_an_error(mode: str) -> None:
    torch.set_deterministic_debug_mode(mode)
    torch.backends.cudnn.benchmark = False
    before = torch.get_deterministic_debug_mode()
    with fastest_kernels():
        inside = (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark)
    assert inside == (False, True)
    with pytest.raises(RuntimeError), fastest_kernels():
        torch.mm(torch.zeros(1, 2), torch.zeros(3, 1))
    assert torch.get_deterministic_debug_mode() == before
    assert not torch.backends.cudnn.benchmark


def test_derived_seeds_are_fixed_and_differ_by_each_part() -> None:
    assert derive_seed(0, "images", 1) == 6696112765501743419
    purposes = (("a",), ("b",), ("a", 1), ("a", 2), ("a", "b"))
    seeds = [derive_seed(1, "a"), *(derive_seed(0, *purpose) for purpose in purposes)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeded_gives_the_same_numbers_and_leaves_the_callers_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with seeded(7):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded(7):
        assert torch.equal(torch.rand(3), first)


def test_reseeding_is_seeding_of_what_a_device_draws() -> None:
    with seeded(0):
        torch.manual_seed(5)
        expected = torch.rand(3)
        reseed(5, torch.device("cpu"))
        assert torch.equal(torch.rand(3), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_reseeding_is_seeding_of_what_a_gpu_draws() -> None:
    with seeded(0):
        torch.manual_seed(5)
        expected = torch.rand(3, device="cuda")
        reseed(5, torch.device("cuda"))
        assert torch.equal(torch.rand(3, device="cuda"), expected)

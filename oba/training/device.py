"""What a stage runs on and what makes it reproducible: device, threads, kernels, seeds."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.utils.deterministic

from oba.errors import ConfigError

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _GIGABYTE = -1, -3, 1 << 30
"""Settings of glibc's ``mallopt``, and their value in bytes."""


def pick_device(name: str) -> torch.device:
    """Return the device to run on.

    Args:
        name: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.

    Returns:
        The device.

    Raises:
        ConfigError: If ``cuda`` is asked for where there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("runtime.device: 'cuda', but torch finds no CUDA device here; allowed: 'auto', 'cpu'")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def set_threads(threads: int) -> None:
    """Set how many CPU threads one operation uses; sums, and so results, depend on it.

    Args:
        threads: The number.
    """
    torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Have glibc keep what tensors free for those that come next, for the whole process.

    By default it hands large blocks back to the system, and every page of the next tensor is a fault again: a quarter
    of the time of a training step on some machines. Does nothing where there is no glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for setting in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            mallopt(setting, _GIGABYTE)


def make_deterministic(device: torch.device, enabled: bool = True) -> None:
    """Choose bitwise reproducible kernels, for the whole process; call it before the first work on the GPU.

    On a CPU the kernels are reproducible anyway, for one number of threads. On a GPU the few operations that
    have no such kernel warn and run.

    Args:
        device: Where the work will run.
        enabled: False for the fastest kernels instead, whose results differ from run to run.
    """
    if device.type != "cuda":
        return
    torch.backends.cudnn.benchmark = not enabled
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_deterministic_debug_mode("warn")
        # Filling every new tensor first costs a kernel each and only helps code that reads what it never wrote.
        torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]


def allow_tf32(enabled: bool) -> None:
    """Choose, for the whole process, whether GPUs may round the factors of fp32 products to TF32's ten bits.

    Args:
        enabled: Whether they may.
    """
    torch.set_float32_matmul_precision("high" if enabled else "highest")
    torch.backends.cudnn.allow_tf32 = enabled


@contextmanager
def fastest_kernels() -> Iterator[None]:
    """Run a net as its users would: no deterministic kernels, TF32 convolutions, and cuDNN tries several on new sizes.

    Yields:
        Nothing; the caller's settings are restored afterwards.
    """
    cudnn = torch.backends.cudnn
    mode, benchmark, tf32 = torch.get_deterministic_debug_mode(), cudnn.benchmark, cudnn.allow_tf32
    torch.set_deterministic_debug_mode("default")
    cudnn.benchmark = cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        cudnn.benchmark, cudnn.allow_tf32 = benchmark, tf32


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global random state inside the block, and restore the caller's afterwards.

    Args:
        seed: The seed.

    Yields:
        Nothing.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def reseed(seed: int, device: torch.device) -> None:
    """Seed torch's global random state of the CPU and of one device: ``torch.manual_seed`` takes a millisecond for all.

    Args:
        seed: The seed.
        device: Where the work runs.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)

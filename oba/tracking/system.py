"""How busy the machine is while a stage runs, in MLflow's own names for it.

MLflow samples by itself, too, but sends each sample at once: an outage loses them, and a server that hangs holds up
its thread. Here samples are reported like everything else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from threading import Event, Thread
from typing import Any

from oba.tracking.names import SYSTEM

CPU = f"{SYSTEM}cpu_utilization_percentage"
"""The measure that every sample has."""
SAMPLE_SECONDS = 20.0
"""Time between two samples; a stage that is shorter has none."""

_FIRST_SECONDS = 1.0
"""Of the processor's load, what the first sample is of."""


class Sampler:
    """Samples in a thread of its own until it is stopped."""

    def __init__(self, report: Callable[[Mapping[str, float], int], None], first: int, seconds: float) -> None:
        """Start.

        Args:
            report: What takes the measures and the number of the sample.
            first: The number of the first sample.
            seconds: Time between two samples.
        """
        self._report, self._number, self._seconds = report, first, seconds
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="system metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, after a sample that is being reported."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        if self._stopped.wait(self._seconds):
            return  # A short stage does not even pay for the imports.
        psutil, gpus = import_module("psutil"), _gpus_of_the_job()
        psutil.cpu_percent()  # from here on
        pause = min(_FIRST_SECONDS, self._seconds)
        while not self._stopped.wait(pause):
            pause = self._seconds
            try:
                self._report(_machine(psutil) | _gpus(gpus), self._number)
            except OSError:
                return  # A full disk is for the stage to tell.
            self._number += 1


def _gpus_of_the_job() -> list[Any]:
    """Return NVML's handles of the GPUs that this process may use, in CUDA's order; none where NVML is missing."""
    try:
        nvml: Any = import_module("pynvml")
    except ImportError:
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        nvml.nvmlInit()
        names = chosen.split(",") if chosen is not None else map(str, range(nvml.nvmlDeviceGetCount()))
        return [_handle(nvml, name.strip()) for name in names if name.strip()]
    except (nvml.NVMLError, ValueError):
        return []


def _handle(nvml: Any, name: str) -> Any:
    return nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)


def _machine(psutil: Any) -> dict[str, float]:
    memory = psutil.virtual_memory()
    return {
        CPU: psutil.cpu_percent(),
        f"{SYSTEM}system_memory_usage_megabytes": round(memory.used / 1e6, 1),
        f"{SYSTEM}system_memory_usage_percentage": round(100 * memory.used / memory.total, 1),
    }


def _gpus(handles: list[Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for i, handle in enumerate(handles):
        nvml: Any = import_module("pynvml")
        with suppress(nvml.NVMLError):
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            found[f"{SYSTEM}gpu_{i}_memory_usage_megabytes"] = round(memory.used / 1e6, 1)
            found[f"{SYSTEM}gpu_{i}_memory_usage_percentage"] = round(100 * memory.used / memory.total, 1)
            found[f"{SYSTEM}gpu_{i}_utilization_percentage"] = nvml.nvmlDeviceGetUtilizationRates(handle).gpu
            found[f"{SYSTEM}gpu_{i}_power_usage_watts"] = round(nvml.nvmlDeviceGetPowerUsage(handle) / 1000, 1)
    return found

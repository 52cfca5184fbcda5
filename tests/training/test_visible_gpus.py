"""Which GPUs a machine shows: counted by device files, or by the driver."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oba.training import slots
from oba.training.slots import visible_devices, visible_gpus

ROOT = Path(__file__).parents[2]
INSTALLED = slots._installed


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
    monkeypatch.setattr(slots, "_installed", lambda: 8)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if value is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_devices() == devices
    assert visible_gpus() == len(devices)


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

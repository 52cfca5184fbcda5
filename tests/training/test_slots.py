"""GPUs for one job: which it sees, what it leaves, and what it does not wait for; on pretended devices."""

from __future__ import annotations

import os

import pytest
import torch

from oba.errors import ConfigError
from oba.training.slots import device_slots

pytestmark = pytest.mark.usefixtures("_eight_gpus_and_no_scheduler")


@pytest.mark.parametrize(
    ("device", "devices", "text"), [("auto", [], "0 NVIDIA GPUs"), ("cuda", ["0"], "1 NVIDIA GPU")]
)
def test_more_gpus_than_there_are_are_not_waited_for(tmp_path, device, devices, text):
    message = f"gpus: 2, but this job sees {text}; allowed: at most 1, or runtime.device: cpu"
    with pytest.raises(ConfigError, match=message), device_slots(device, 2, devices=devices, folder=tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_where_no_lock_can_be_made_is_not_waited_for(tmp_path):
    missing = tmp_path / "missing"
    with pytest.raises(FileNotFoundError, match="missing"), device_slots("cuda", folder=missing):
        pass


def test_taking_a_slot_makes_its_lock_file_young(tmp_path):
    lock = tmp_path / "oba-gpu-0.lock"
    lock.touch()
    os.utime(lock, (1, 1))
    with device_slots("cuda", folder=tmp_path):
        assert lock.stat().st_mtime > 10**9


@pytest.mark.parametrize("before", [None, "3,4"])
def test_cuda_sees_the_chosen_device_alone_and_the_environment_is_restored(tmp_path, monkeypatch, before):
    if before:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    with device_slots("auto", folder=tmp_path) as held:
        expected = "3" if before else "0"
        assert held == [os.environ["CUDA_VISIBLE_DEVICES"]] == [expected]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before
    with device_slots("auto", devices=[expected], folder=tmp_path) as again:
        assert again == [expected]


@pytest.mark.parametrize(("device", "devices"), [("cpu", ["0"]), ("auto", []), ("cuda", [])])
def test_without_gpus_or_need_there_is_no_slot(tmp_path, device, devices):
    with device_slots(device, devices=devices, folder=tmp_path) as chosen:
        assert chosen == []
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert list(tmp_path.iterdir()) == []


def test_a_slot_after_cuda_has_started_is_a_bug(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(AssertionError, match="has read its devices already"), device_slots("cuda", folder=tmp_path):
        pass


def test_a_block_inside_another_has_the_first_of_its_devices(tmp_path):
    devices = ["0", "1", "2"]
    with device_slots("cuda", 2, devices=devices, folder=tmp_path) as outer:
        with device_slots("cuda", 1, devices=devices, folder=tmp_path) as inner:
            assert inner == outer[:1] == ["0"]
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
        with device_slots("cpu", 1, devices=devices, folder=tmp_path) as none:
            assert none == []
    with device_slots("cuda", 3, devices=devices, folder=tmp_path) as free:
        assert free == devices

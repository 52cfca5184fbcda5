"""Stages of one job run in their order, skip what is done, and hold their devices from first to last."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from oba.jobs import rules_of
from oba.layout import Coordinates
from oba.stages import together
from oba.study import parse_study
from oba.training.slots import device_slots

LEVEL = Coordinates("resnet8", 0, "magnitude", "iterative", "0.60")


@pytest.mark.parametrize(
    ("name", "at", "expected"),
    [
        ("level", LEVEL, [("prune", ""), ("finetune", ""), ("evaluate", "finetuned")]),
        ("dense", Coordinates("resnet8", 0), [("dense", ""), ("evaluate", "dense")]),
        ("scratch", LEVEL, [("scratch", ""), ("evaluate", "scratch")]),
    ],
)
def test_stages_run_in_order_and_share_the_devices(study_values, monkeypatch, tmp_path, name, at, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    slots = partial(device_slots, devices=["4", "5", "6"], folder=tmp_path)
    monkeypatch.setattr(together, "device_slots", slots)
    values = study_values | {"job_per": "level", "gpus": {"dense": 2, "finetune": 2}, "controls": ["scratch"]}
    study = parse_study(values, "study")
    [rule] = [rule for rule in rules_of(study) if rule.name == name]
    ran = []

    def execute(command, study, at, *, source):
        ran.append((command, at.variant, os.environ["CUDA_VISIBLE_DEVICES"], source))

    monkeypatch.setattr(together, "execute", execute)
    together.execute_together(rule, study, at, source=Path("study.json"))
    assert [(command, own) for command, own, *_ in ran] == expected
    assert {devices for _, _, devices, _ in ran} == {"4,5"}
    assert {source for *_, source in ran} == {Path("study.json")}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""

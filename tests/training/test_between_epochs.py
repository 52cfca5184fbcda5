"""Trainings that end between two epochs, and go on there with the same bits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from resuming import Interrupted, figures, same, stop_after
from torch import nn

from oba.machine import RuntimeConfig
from oba.recipes import TrainConfig
from oba.tracking import RunIdentity, stage_run
from oba.tracking.journal import read_attempt
from oba.tracking.names import numbers
from oba.training.records import TrainOutcome
from oba.training.state import TrainState, TrainStates

Run = Callable[..., tuple[nn.Module, TrainOutcome]]


@pytest.mark.parametrize("select", ["last", "best"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_interrupted_training_goes_on_and_ends_with_the_same_bits(
    run: Run, tmp_path: Path, toy: SimpleNamespace, select: Any, momentum: float
) -> None:
    config = TrainConfig(epochs=4, batch_size=16, lr=0.1, momentum=momentum, select=select)
    whole, expected = run(config, state_dir=tmp_path / "whole")
    for epoch in (1, 3):
        with pytest.raises(Interrupted):
            run(config, on_epoch=stop_after(epoch))
    bundle = toy.ToyBundle()
    resumed, outcome = run(config, bundle=bundle)
    assert len(bundle.train.calls) == 1
    assert same(whole, resumed)
    assert figures(outcome.history) == figures(expected.history)
    assert outcome.selected_epoch == expected.selected_epoch


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_an_epoch_whose_report_a_kill_prevented_is_reported_when_the_training_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    journal, identity = tmp_path / "stage.jsonl", RunIdentity("exp", "stage", "stage")

    def start() -> TrainOutcome:
        with stage_run(journal, identity, uri="sqlite:///unused", results_dir=tmp_path, min_seconds=math.inf) as stage:
            return run(on_epoch=lambda record: stage.metrics(asdict(record), step=record.epoch))[1]

    class Dying(TrainStates):
        def save(self, state: TrainState) -> bool:
            super().save(state)
            if len(state.history) == epoch:
                raise Interrupted
            return True

    with monkeypatch.context() as patch:
        patch.setattr("oba.training.loop.TrainStates", Dying)
        with pytest.raises(Interrupted):
            start()
    outcome = start()
    attempt = read_attempt(journal)
    assert attempt is not None
    reported = [
        (event.fields["step"], name, value)
        for event in attempt.events
        if event.kind == "metrics"
        for name, value in event.fields["values"].items()
    ]
    assert reported == [
        (record.epoch, name, value) for record in outcome.history for name, value in numbers(asdict(record)).items()
    ]


def test_a_finished_training_is_taken_from_its_state(run: Run, toy: SimpleNamespace) -> None:
    whole, expected = run()
    bundle = toy.ToyBundle()
    again, outcome = run(bundle=bundle)
    assert bundle.train.calls == []
    assert same(whole, again)
    assert outcome == expected


def test_a_damaged_newest_state_costs_one_epoch(
    run: Run, tmp_path: Path, toy: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    whole, _ = run(state_dir=tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(on_epoch=stop_after(3))
    newest = tmp_path / "state" / "epoch-0003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    new: list[int] = []
    bundle = toy.ToyBundle()
    resumed, _ = run(bundle=bundle, on_epoch=lambda record: new.append(record.epoch))
    assert new == [1, 2, 3, 4]
    assert len(bundle.train.calls) == 2
    assert same(whole, resumed)
    assert "epoch-0003.safetensors: damaged" in caplog.text


@pytest.mark.parametrize("change", [{"seed": 4}, {"runtime": RuntimeConfig(precision="bf16")}])
def test_a_state_of_another_training_is_not_taken(
    run: Run, toy: SimpleNamespace, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    run()
    bundle = toy.ToyBundle()
    run(bundle=bundle, **change)
    assert len(bundle.train.calls) == 4
    assert "saved by a job with other settings" in caplog.text


def test_the_state_holds_what_the_next_epoch_needs(run: Run, tmp_path: Path, toy: SimpleNamespace) -> None:
    with pytest.raises(Interrupted):
        run(on_epoch=stop_after(2))
    key = json.loads((tmp_path / "state" / "epoch-0002.json").read_text())["key"]
    state = TrainStates(tmp_path / "state", key).load()
    assert state is not None
    model = toy.toy_net()
    assert state.weights.keys() == model.state_dict().keys() == state.best.keys()
    assert state.optimizer.keys() == {f"{name}/momentum_buffer" for name, _ in model.named_parameters()}
    assert [record.epoch for record in state.history] == [1, 2]

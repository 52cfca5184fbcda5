"""Trainings that end in the middle of an epoch, and go on there with the same bits."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from resuming import Breaking, Interrupted, figures, same, save_after_every_step
from torch import nn

from oba import signals
from oba.errors import DataError, FileError, StoppedError
from oba.recipes import TrainConfig
from oba.training import stopping
from oba.training.records import TrainOutcome
from oba.training.state import TrainStates

Run = Callable[..., tuple[nn.Module, TrainOutcome]]


def ask_to_stop(*_: Any) -> None:
    """Do what a first signal does while a training holds it back."""
    signals._heard.first = "SIGUSR1"


@pytest.fixture(autouse=True)
def forget_signals() -> Any:
    yield
    signals._heard.first = None


@pytest.mark.parametrize("after", [(1,), (6, 1, 3), (9, 6)])
def test_an_interrupted_training_goes_on_after_its_last_step(
    run: Run, tmp_path: Path, toy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, after: tuple[int, ...]
) -> None:
    whole, expected = run(state_dir=tmp_path / "whole")
    save_after_every_step(monkeypatch)
    for steps in after:
        with pytest.raises(Interrupted):
            run(bundle=toy.ToyBundle(Breaking(toy.ToySplit(65, seed=1), steps)))
    bundle = toy.ToyBundle(Breaking(toy.ToySplit(65, seed=1), 16 - sum(after)))
    resumed, outcome = run(bundle=bundle)  # of 4 epochs of 4 steps
    assert bundle.train.left == 0
    assert same(whole, resumed)
    assert figures(outcome.history) == figures(expected.history)
    assert outcome.selected_epoch == expected.selected_epoch


def test_losses_that_were_not_fetched_yet_are_kept(
    run: Run, tmp_path: Path, toy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, split = TrainConfig(epochs=1, batch_size=2, lr=0.01), toy.ToySplit(130, seed=1)
    whole, expected = run(config, bundle=toy.ToyBundle(split), state_dir=tmp_path / "whole")
    save_after_every_step(monkeypatch)
    with pytest.raises(Interrupted):
        run(config, bundle=toy.ToyBundle(Breaking(split, 57)))
    resumed, outcome = run(config, bundle=toy.ToyBundle(split))
    assert same(whole, resumed)
    assert figures(outcome.history) == figures(expected.history)


def test_an_epochs_time_is_that_of_all_its_parts(
    run: Run, toy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = TrainConfig(epochs=1, batch_size=16, lr=0.1)
    save_after_every_step(monkeypatch)
    with pytest.raises(Interrupted):
        run(config, bundle=toy.ToyBundle(Breaking(toy.ToySplit(65, seed=1), 2)))
    path = tmp_path / "state" / "epoch-0001-step-000002.json"
    saved = TrainStates(tmp_path / "state", json.loads(path.read_text())["key"])
    state = saved.load()
    assert state is not None
    assert state.part is not None
    state.part.seconds += 1000
    assert saved.save(state)
    _, outcome = run(config)
    assert 1000 < outcome.history[0].seconds < 2000
    assert outcome.history[0].images_per_second < 64 / 1000


def test_a_state_is_due_after_ten_minutes_and_takes_a_fiftieth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(stopping, "time", SimpleNamespace(monotonic=lambda: clock.now))
    watch = stopping.Watch()
    for clock.now, save in ((599.0, False), (600.0, True)):
        assert watch.look() == stopping.Wanted(save, None)
    clock.now = 660.0
    watch.saved(600.0)
    for clock.now, save in ((660.0 + 2999, False), (660.0 + 3000, True)):
        assert watch.look() == stopping.Wanted(save, None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_that_a_signal_ends_in_the_middle_of_an_epoch_ends_with_the_same_bits(
    run: Run, tmp_path: Path, toy: SimpleNamespace, capfd: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    whole, expected = run(state_dir=tmp_path / "whole")
    marker = tmp_path / "in epoch 3"
    command = [sys.executable, str(toy.path), str(tmp_path / "state"), str(marker), "3", str(torch.get_num_threads())]
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": root}, stdout=subprocess.PIPE, text=True) as process:
        limit = time.monotonic() + 120
        while not marker.exists() and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.05)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    kills = number == signal.SIGKILL
    assert process.returncode == (-number if kills else 14)
    where = "saved at epoch 3, step 3 of 4; the same command goes on from there"
    assert said == ("" if kills else f"toy: stopped by {number.name}, {where}\n")
    capfd.readouterr()
    bundle = toy.ToyBundle(Breaking(toy.ToySplit(65, seed=1), 8 if kills else 5))
    resumed, outcome = run(bundle=bundle)
    assert bundle.train.left == 0
    assert ("resumed after epoch 2 of 4" if kills else "resumed at epoch 3, step 3 of 4") in capfd.readouterr().err
    assert same(whole, resumed)
    assert figures(outcome.history) == figures(expected.history)


def test_a_training_that_is_stopped_while_it_validates_does_not_learn_the_epoch_again(
    run: Run, tmp_path: Path, toy: SimpleNamespace
) -> None:
    whole, expected = run(state_dir=tmp_path / "whole")

    class Ringing(toy.ToySplit):
        """Receives a signal."""

        def batches(self, *args: Any, **options: Any) -> Any:
            ask_to_stop()
            raise StoppedError("as the handler does")

    with pytest.raises(StoppedError, match=r"^toy: stopped by SIGUSR1, saved at epoch 1, step 4 of 4; the same "):
        run(bundle=toy.ToyBundle(val=Ringing(30, seed=2)))
    signals._heard.first = None
    bundle = toy.ToyBundle(Breaking(toy.ToySplit(65, seed=1), 12))
    resumed, outcome = run(bundle=bundle)
    assert bundle.train.left == 0
    assert same(whole, resumed)
    assert figures(outcome.history) == figures(expected.history)


def test_a_training_that_is_stopped_after_an_epoch_has_reported_it(run: Run) -> None:
    seen = []
    with pytest.raises(
        StoppedError, match=r"stopped by SIGUSR1, saved at the end of epoch 1; the same command goes on"
    ):
        run(on_epoch=lambda record: (seen.append(record.epoch), ask_to_stop()))
    assert seen == [1]


def test_a_signal_that_also_ends_the_processes_that_read_images_costs_nothing(run: Run, toy: SimpleNamespace) -> None:
    class Dying(toy.ToySplit):
        """Loses its processes once, as a signal comes."""

        def batches(self, *args: Any, **options: Any) -> Any:
            if len(self.calls) == 1:
                yield from super().batches(*args, **options)
            for number, batch in enumerate(super().batches(*args, **options)):
                if number == 2:
                    ask_to_stop()
                    raise DataError("a process that reads images was killed")
                yield batch

    with pytest.raises(StoppedError, match=r"saved at epoch 1, step 3 of 4"):
        run(bundle=toy.ToyBundle(Dying(65, seed=1)))


def test_images_that_cannot_be_read_are_no_signal(run: Run, toy: SimpleNamespace) -> None:
    with pytest.raises(DataError, match="no image"):
        run(bundle=toy.ToyBundle(Breaking(toy.ToySplit(65, seed=1), 2, DataError("no image"))))


def test_a_full_disk_stops_no_training_that_has_saved_before(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole, _ = run(state_dir=tmp_path / "whole")
    full = FileError("epoch-0002.safetensors: no space left on device")

    def write(path: Path, tensors: Any) -> None:
        raise full

    def fill(record: Any) -> None:
        if record.epoch == 1:
            monkeypatch.setattr("oba.snapshots.write_tensors", write)

    with caplog.at_level(logging.WARNING):
        trained, outcome = run(on_epoch=fill)
    assert same(whole, trained)
    assert len(outcome.history) == 4
    assert caplog.messages == [f"state of training not saved, going on without: {full}"]
    assert [path.name for path in sorted((tmp_path / "state").glob("*.json"))] == ["epoch-0001.json"]
    with pytest.raises(FileError, match="no space left"):
        run(state_dir=tmp_path / "new")
    with pytest.raises(StoppedError, match="not saved at the end of epoch 2, as warned; the same command goes on"):
        run(on_epoch=lambda record: ask_to_stop() if record.epoch == 2 else None)

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from oba.training.records import EpochRecord
from oba.training.state import EpochPart, TrainState, TrainStates


def state(epochs: int) -> TrainState:
    return TrainState(
        history=[EpochRecord(n, 0.1 / n, 1 / n, 0.5, 1 / 3, 0.25, 100.0, 2.0) for n in range(1, epochs + 1)],
        weights={"a.weight": torch.full((2, 3), 1 / epochs), "a.count": torch.tensor(epochs)},
        optimizer={"a.weight/exp_avg": torch.randn(2, 3), "a.weight/step": torch.tensor(3.0)},
        average={"a.weight": torch.zeros(2, 3)},
        best={"a.weight": torch.ones(2, 3), "a.count": torch.tensor(1)},
        selected_epoch=1,
        scaler={"scale": 2.0**16, "_growth_tracker": 7},
    )


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    saved = state(2)
    TrainStates(tmp_path, "key").save(saved)
    loaded = TrainStates(tmp_path, "key").load()
    assert loaded is not None
    assert (loaded.history, loaded.selected_epoch, loaded.scaler) == (saved.history, 1, saved.scaler)
    for part in ("weights", "optimizer", "average", "best"):
        ours, theirs = getattr(loaded, part), getattr(saved, part)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in ours)


def test_the_last_two_epochs_are_kept(tmp_path: Path) -> None:
    (tmp_path / ".epoch-0001.safetensors.x1y2.part").touch()
    states = TrainStates(tmp_path, "key")
    for epoch in (1, 2, 3):
        assert states.save(state(epoch))
    assert files(tmp_path) == [
        "epoch-0002.json", "epoch-0002.safetensors", "epoch-0003.json", "epoch-0003.safetensors"
    ]  # fmt: skip


def test_without_a_state_there_is_none(tmp_path: Path) -> None:
    assert TrainStates(tmp_path / "nothing here", "key").load() is None


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a torn weight file": lambda p: (p / "epoch-0003.safetensors").write_bytes(b"\x10\x00"),
    "a flipped bit": lambda p: flip(p / "epoch-0003.safetensors"),
    "no weight file": lambda p: (p / "epoch-0003.safetensors").unlink(),
    "a torn record": lambda p: (p / "epoch-0003.json").write_text('{"key": "ke'),
    "another record": lambda p: (p / "epoch-0003.json").write_text('{"key": "key"}'),
    "no record": lambda p: (p / "epoch-0003.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_named_and_the_one_before_serves(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    states = TrainStates(tmp_path, "key")
    states.save(state(2))
    states.save(state(3))
    DAMAGES[damage](tmp_path)
    loaded = (states := TrainStates(tmp_path, "key")).load()
    assert loaded is not None
    assert len(loaded.history) == 2
    assert ("epoch-0003" in caplog.text) == (damage != "no record")
    states.save(state(3))  # over what is damaged
    again = TrainStates(tmp_path, "key").load()
    assert again is not None
    assert len(again.history) == 3


def part(epochs: int, step: int, ranks: int = 2) -> TrainState:
    within = state(epochs)
    own = [{"correct": torch.tensor(3 + r), "waiting": torch.rand(2), "s/0/m": torch.rand(4)} for r in range(ranks)]
    within.part = EpochPart(step, 1.5, [0.1, 1 / 3], own)
    return within


def test_a_state_within_an_epoch_comes_back_bit_for_bit(tmp_path: Path) -> None:
    saved = part(2, 120)
    TrainStates(tmp_path, "key").save(saved)
    assert files(tmp_path) == ["epoch-0003-step-000120.json", "epoch-0003-step-000120.safetensors"]
    loaded = TrainStates(tmp_path, "key").load()
    assert loaded is not None
    assert saved.part is not None
    assert loaded.part is not None
    assert (loaded.part.step, loaded.part.seconds, loaded.part.losses) == (120, 1.5, [0.1, 1 / 3])
    for ours, theirs in zip(loaded.part.own, saved.part.own, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_states_within_and_after_epochs_follow_each_other(tmp_path: Path) -> None:
    states = TrainStates(tmp_path, "key")
    order = [part(1, 50), part(1, 100), state(2), part(2, 9), part(2, 1000), state(3)]
    for before, now in pairwise(order):
        states.save(before)
        states.save(now)
        assert {name.partition(".")[0] for name in files(tmp_path)} == {before.name, now.name}
        loaded = TrainStates(tmp_path, "key").load()
        assert loaded is not None
        assert loaded.name == now.name


def test_no_state_is_left_that_is_older_than_the_one_before_a_damaged_one(tmp_path: Path) -> None:
    states = TrainStates(tmp_path, "key")
    states.save(state(2))
    states.save(part(2, 70))
    flip(tmp_path / "epoch-0003-step-000070.safetensors")
    states = TrainStates(tmp_path, "key")
    assert states.load() is not None
    states.save(part(2, 50))
    assert {name.partition(".")[0] for name in files(tmp_path)} == {"epoch-0002", "epoch-0003-step-000050"}


@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_whatever_changes_in_a_state_is_noticed(tmp_path: Path, kind: str) -> None:
    states = TrainStates(tmp_path, "key")
    states.save(state(2))
    states.save(part(2, 7))
    newest = tmp_path / f"epoch-0003-step-000007.{kind}"
    content, draw = newest.read_bytes(), random.Random(0)
    expected = json.loads((tmp_path / "epoch-0003-step-000007.json").read_text())["history"]
    for place in range(0, len(content), 1 if kind == "json" else 5):
        changed = bytearray(content)
        changed[place] ^= draw.choice([1 << bit for bit in range(8)])
        newest.write_bytes(changed)
        loaded = TrainStates(tmp_path, "key").load()
        assert loaded is not None
        assert [asdict(record) for record in loaded.history] == expected
        # A space may become another one, and an e an E; nothing else stands for the same.
        same = kind == "json" and json.loads(content) == _parsed(changed)
        assert (loaded.part is not None) == same, place


def _parsed(content: bytearray) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_a_state_with_another_key_is_named_and_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    TrainStates(tmp_path, "key").save(state(1))
    assert TrainStates(tmp_path, "other").load() is None
    assert "epoch-0001.json: saved by a job with other settings" in caplog.text


def test_what_is_written_is_plain(tmp_path: Path) -> None:
    TrainStates(tmp_path, "key").save(state(1))
    value = json.loads((tmp_path / "epoch-0001.json").read_text())
    assert value["history"][0]["lr"] == 0.1
    assert value["selected_epoch"] == 1

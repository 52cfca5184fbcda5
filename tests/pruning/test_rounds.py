"""Levels that are interrupted between and within rounds, and go on with the same bits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from oba.config import Floors
from oba.importance import score_structures
from oba.models.weight_masks import Masks
from oba.pruning import rounds as module
from oba.pruning.cut import Cut, Images, make_update
from oba.pruning.levels import Steps, prune_to_level
from oba.pruning.plan import Plan
from oba.pruning.problem import make_allocation
from oba.pruning.rounds import SavedRounds
from oba.pruning.update.least_squares import LeastSquares
from oba.pruning.weights.levels import WeightSteps, mask_to_level
from oba.pruning.weights.problem import make_weight_allocation
from oba.pruning.weights.prunable import whole_masks
from oba.records import Round

SIZE = (3, 8, 8)
ROUNDS = 3


class Interrupted(Exception):
    """Ends a level as a kill would."""


class Countdown:
    """Interrupts at the n-th call of something, and counts calls."""

    def __init__(self, calls: int | None = None) -> None:
        self.left, self.calls = calls, 0

    def __call__(self) -> None:
        if self.left == self.calls:
            raise Interrupted
        self.calls += 1


def batches() -> Any:
    draw = torch.Generator().manual_seed(5)
    for size in (4, 3, 2):
        yield torch.randn(size, *SIZE, generator=draw, dtype=torch.float64), torch.arange(size) % 3


def saved(folder: Path, noted: dict[str, Any] | None = None) -> SavedRounds:
    """Return a place to save rounds, beside what scoring has noted."""
    noted = {} if noted is None else noted
    return SavedRounds(
        folder,
        label="prune net",
        remember=lambda: ({"noted": noted.get("value", 0)}, {"t": torch.tensor([noted.get("value", 0)])}),
        recall=lambda values, tensors: noted.update(value=values["noted"], tensor=tensors["t"]),
    )


@pytest.fixture
def every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save whatever was done, however fast."""
    monkeypatch.setattr(module, "SAVE_AFTER", 0.0)


def prune(case: Any, rounds: Any = None, *, scoring: Any = None, update: Any = None, number: int = ROUNDS) -> Any:
    """Prune a copy of a net; return it with its plan and records."""
    net = copy.deepcopy(case.model)

    def score(model: torch.nn.Module, groups: Any) -> Any:
        if scoring is not None:
            scoring()
        return score_structures(model, groups, batches(), "oba-joint")

    steps = Steps(make_allocation("global"), update or make_update("least-squares"), number, Floors(), "exponential")
    plan, records = prune_to_level(
        net, case.groups, Plan(), score=score, steps=steps, images=batches, keep=0.4, input_size=SIZE, rounds=rounds
    )
    return net, plan, records


def facts(records: list[Round]) -> list[dict[str, Any]]:
    return [record.model_dump(exclude={"scoring_seconds"}) for record in records]


def assert_same(found: Any, expected: Any) -> None:
    assert found[1].to_json() == expected[1].to_json()
    assert facts(found[2]) == facts(expected[2])
    states = found[0].state_dict(), expected[0].state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


class Breaking(LeastSquares):
    """Least squares that end before a layer, counted over all rounds."""

    countdown: Countdown

    def adjust(self, cut: Cut, images: Images) -> None:
        add = cut.adjusted.save

        def save() -> None:
            add()
            self.countdown()

        super().adjust(Cut(**vars(cut) | {"adjusted": type(cut.adjusted)(cut.adjusted.names, save)}), images)


def breaking(calls: int | None = None) -> Breaking:
    update = make_update("least-squares")
    broken = Breaking(update.options)
    broken.countdown = Countdown(calls)
    return broken


@pytest.mark.parametrize("name", ["batch-norm", "residual-streams"])
@pytest.mark.parametrize("done", [1, 2])
def test_rounds_that_are_done_are_not_done_again(
    zoo: Callable[[str], Any],
    tmp_path: Path,
    every_time: None,
    capsys: pytest.CaptureFixture[str],
    name: str,
    done: int,
) -> None:
    case = zoo(name)
    expected = prune(case)
    with pytest.raises(Interrupted):
        prune(case, saved(tmp_path, {"value": 7}), scoring=Countdown(done))
    counted, noted = Countdown(), {}
    found = prune(case, saved(tmp_path, noted), scoring=counted)
    assert counted.calls == ROUNDS - done
    assert_same(found, expected)
    assert (noted["value"], noted["tensor"].tolist()) == (7, [7])
    assert capsys.readouterr().err == f"prune net  resumed after round {done}\n"


def test_layers_that_are_adjusted_are_not_adjusted_again(
    zoo: Callable[[str], Any], tmp_path: Path, every_time: None, capsys: pytest.CaptureFixture[str]
) -> None:
    case, whole = zoo("residual-streams"), breaking()
    expected = prune(case, update=whole)
    layers = whole.countdown.calls
    assert layers > 5
    for stop in range(1, layers, 3):
        with pytest.raises(Interrupted):
            prune(case, saved(tmp_path / str(stop)), update=breaking(stop))
        rest, scored = breaking(), Countdown()
        found = prune(case, saved(tmp_path / str(stop)), update=rest, scoring=scored)
        assert rest.countdown.calls == layers - stop - 1, "the interrupted layer was saved"
        assert scored.calls < ROUNDS, "nor is scored again"
        assert_same(found, expected)
    assert "resumed after round 1, in round 2" in capsys.readouterr().err


def test_short_rounds_leave_no_files(zoo: Callable[[str], Any], tmp_path: Path) -> None:
    prune(zoo("batch-norm"), saved(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_finished_level_is_taken_from_its_rounds(zoo: Callable[[str], Any], tmp_path: Path, every_time: None) -> None:
    case = zoo("batch-norm")
    expected = prune(case, saved(tmp_path))
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["round-0003-layer-0002.json", "round-0003.json"]
    assert_same(prune(case, saved(tmp_path), scoring=Countdown(0)), expected)


def test_a_damaged_round_is_done_again(
    zoo: Callable[[str], Any], tmp_path: Path, every_time: None, caplog: pytest.LogCaptureFixture
) -> None:
    case = zoo("batch-norm")
    expected = prune(case, saved(tmp_path))
    path = tmp_path / "round-0003.json"
    path.write_text(path.read_text().replace('"loss_after": ', '"loss_after": 1', 1))
    assert_same(prune(case, saved(tmp_path)), expected)
    assert "round-0003.json: damaged" in caplog.text


@pytest.mark.parametrize("update", ["none", "norm"])
@pytest.mark.parametrize("stop", range(1, 2 * ROUNDS))
def test_rounds_of_single_weights_go_on_with_the_same_bits(
    zoo: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update: str, stop: int
) -> None:
    case = zoo("batch-norm")
    monkeypatch.setattr(module, "SAVE_AFTER", 0.0)

    def mask(rounds: Any = None, scoring: Any = None) -> Any:
        net = copy.deepcopy(case.model)

        def score(model: torch.nn.Module, masks: Masks) -> Any:
            if scoring is not None:
                scoring()
            return {name: model.get_parameter(name).detach().abs() for name in masks}

        steps = WeightSteps(make_weight_allocation("global"), make_update(update), ROUNDS, "cubic")
        masks, records = mask_to_level(
            net, whole_masks(net), score=score, steps=steps, images=batches, keep=0.3, rounds=rounds
        )
        return net, SimpleNamespace(to_json=lambda: {name: mask.tolist() for name, mask in masks.items()}), records

    class Breaking(SavedRounds):
        """Ends after it has saved so many times."""

        countdown = Countdown(stop - 1)

        def save(self, *args: Any) -> None:
            super().save(*args)
            self.countdown()

    expected, place = mask(), saved(tmp_path)
    place.__class__ = Breaking
    with pytest.raises(Interrupted):
        mask(place)
    counted = Countdown()
    assert_same(mask(saved(tmp_path), counted), expected)
    assert counted.calls == ROUNDS - (stop + 1) // 2

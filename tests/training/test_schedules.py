from __future__ import annotations

import pytest

from oba.config import PRESETS
from oba.recipes import TrainConfig
from oba.training.schedules import learning_rate


@pytest.mark.parametrize(
    ("epochs_done", "rate"), [(0, 1e-3), (79.9, 1e-3), (80, 1e-4), (119.9, 1e-4), (120, 1e-5), (149.9, 1e-5)]
)
def test_fine_tuning_falls_as_in_the_paper(epochs_done: float, rate: float) -> None:
    config = TrainConfig(**PRESETS["oba-cifar"]["finetune"])
    assert learning_rate(config, epochs_done) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(("epochs_done", "rate"), [(59, 0.1), (60, 0.01), (100, 0.001), (150, 1e-4), (199, 1e-4)])
def test_dense_training_falls_as_in_the_authors_code(epochs_done: float, rate: float) -> None:
    settings = PRESETS["oba-cifar"]["dense"]
    assert learning_rate(TrainConfig(**settings), epochs_done) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(("epochs_done", "rate"), [(0, 0.2), (2.5, 0.2 * 0.8535533905932737), (5, 0.1), (10, 0.0)])
def test_cosine_goes_from_lr_to_zero(epochs_done: float, rate: float) -> None:
    config = TrainConfig(epochs=10, lr=0.2, schedule="cosine")
    assert learning_rate(config, epochs_done) == pytest.approx(rate, abs=1e-15)


@pytest.mark.parametrize(("epochs_done", "rate"), [(0, 0), (0.5, 0.05), (1, 0.1), (2, 0.2), (6, 0.1), (10, 0.0)])
def test_warm_up_rises_linearly_and_cosine_takes_the_rest(epochs_done: float, rate: float) -> None:
    config = TrainConfig(epochs=10, lr=0.2, schedule="cosine", warmup_epochs=2)
    assert learning_rate(config, epochs_done) == pytest.approx(rate, abs=1e-15)


def test_warm_up_does_not_move_milestones() -> None:
    config = TrainConfig(epochs=10, lr=0.2, schedule="step", milestones=[4], gamma=0.5, warmup_epochs=2)
    rates = [learning_rate(config, done) for done in (1, 2, 3.9, 4)]
    assert rates == pytest.approx([0.1, 0.2, 0.2, 0.1])

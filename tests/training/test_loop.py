"""Whole trainings: what they learn from, what a step computes, which epoch is kept, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from resuming import Interrupted, figures, same
from torch import Tensor, nn

from oba.errors import TrainingError
from oba.machine import RuntimeConfig
from oba.recipes import TrainConfig
from oba.training.evaluation import Metrics, evaluate
from oba.training.records import EpochRecord, TrainOutcome

Run = Callable[..., tuple[nn.Module, TrainOutcome]]


def test_a_small_net_learns_a_separable_problem(run: Run, toy: SimpleNamespace) -> None:
    config = TrainConfig(epochs=12, batch_size=16, lr=0.05, warmup_epochs=1, nesterov=True)
    model, outcome = run(config)
    first, last = outcome.history[0], outcome.history[-1]
    assert last.val_top1 > 0.9 > first.val_top1
    assert last.train_loss < first.train_loss
    assert not model.training
    assert outcome.selected_epoch == 12
    metrics = evaluate(model, toy.ToyBundle().val, batch_size=7, device=torch.device("cpu"))
    assert metrics.top1 == last.val_top1
    assert metrics.loss == pytest.approx(last.val_loss)
    assert metrics.images == 30


def test_every_epoch_is_reported_once_its_state_is_safe(run: Run, tmp_path: Path) -> None:
    seen: list[EpochRecord] = []

    def on_epoch(record: EpochRecord) -> None:
        seen.append(record)
        assert list((tmp_path / "state").glob(f"epoch-{record.epoch:04d}.json"))

    _, outcome = run(on_epoch=on_epoch)
    assert seen == outcome.history
    assert [record.epoch for record in seen] == [1, 2, 3, 4]
    assert all(record.seconds > 0 and record.images_per_second > 0 for record in seen)
    assert json.loads(json.dumps([asdict(record) for record in seen]))[0]["epoch"] == 1


def test_images_come_augmented_in_an_order_of_seed_and_epoch_and_val_as_it_is(run: Run, toy: SimpleNamespace) -> None:
    bundle = toy.ToyBundle()
    run(bundle=bundle)
    seeds = [seed for seed, _ in bundle.train.calls]
    assert len(set(seeds)) == 4
    assert all(augment for _, augment in bundle.train.calls)
    assert bundle.val.calls == [(None, False)] * 4


def test_training_repeats_bit_for_bit_and_depends_on_the_seed(run: Run, tmp_path: Path) -> None:
    first, outcome = run(state_dir=tmp_path / "a")
    torch.manual_seed(99)  # must not matter
    second, again = run(state_dir=tmp_path / "b")
    other, _ = run(state_dir=tmp_path / "c", seed=4)
    assert same(first, second)
    assert figures(outcome.history) == figures(again.history)
    assert not same(first, other)


def test_the_callers_random_state_is_left_alone(run: Run) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    run()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("select", "selected"), [("best", 3), ("last", 5)])
@pytest.mark.parametrize("stop", [None, 2, 4])
def test_best_is_the_highest_accuracy_then_the_lowest_loss_then_the_earliest(
    run: Run, toy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, select: Any, selected: int, stop: int | None
) -> None:
    scripted = iter([(0.3, 0.1), (0.5, 0.9), (0.5, 0.8), (0.5, 0.8), (0.4, 0.2)])

    def evaluate(*_: Any, **__: Any) -> Metrics:
        top1, loss = next(scripted)
        return Metrics(loss, top1, None, 30, torch.empty(0, 0))

    monkeypatch.setattr("oba.training.loop.evaluate", evaluate)
    config = TrainConfig(epochs=5, batch_size=16, lr=0.1, select=select)
    weights: dict[int, dict[str, Tensor]] = {}

    def start(model: nn.Module) -> TrainOutcome:
        def on_epoch(record: EpochRecord) -> None:
            now = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            weights.setdefault(record.epoch, now)  # a training that goes on reports earlier epochs again
            if record.epoch == stop and model is first:
                raise Interrupted

        return run(config, model=model, on_epoch=on_epoch)[1]

    first, second = toy.toy_net(), toy.toy_net()
    if stop:
        with pytest.raises(Interrupted):
            start(first)
    outcome = start(second)
    assert outcome.selected_epoch == selected
    assert all(torch.equal(tensor, weights[selected][name]) for name, tensor in second.state_dict().items())
    assert not torch.equal(weights[3]["head.weight"], weights[5]["head.weight"])


def test_without_epochs_the_net_stays_as_it_is(run: Run, toy: SimpleNamespace) -> None:
    model, outcome = run(TrainConfig(epochs=0))
    assert same(model, toy.toy_net())
    assert outcome == TrainOutcome([], 0)
    assert not model.training


def test_one_step_is_sgd_on_the_smoothed_loss(run: Run, toy: SimpleNamespace) -> None:
    class Constant(nn.Module):
        """Logits that are parameters: the gradient is known."""

        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0]))

        def forward(self, x: Tensor) -> Tensor:
            return self.logits.expand(len(x), 4)

    bundle = toy.ToyBundle(toy.ToySplit(16, seed=7))
    config = TrainConfig(epochs=1, batch_size=16, lr=0.5, weight_decay=0.01, schedule="step", label_smoothing=0.1)
    model, outcome = run(config, model=Constant(), bundle=bundle)
    start = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    share = torch.bincount(bundle.train.targets, minlength=4).double() / 16
    target = 0.9 * share + 0.1 / 4
    expected = start - 0.5 * (start.softmax(0) - target + 0.01 * start)
    torch.testing.assert_close(model.get_parameter("logits").double(), expected, rtol=1e-6, atol=1e-7)
    assert outcome.history[0].train_loss == pytest.approx(-(target * start.log_softmax(0)).sum().item(), rel=1e-6)
    assert outcome.history[0].train_top1 == pytest.approx(share[0].item())
    assert outcome.history[0].lr == 0.5


def test_the_mean_loss_weighs_images_not_batches(run: Run, toy: SimpleNamespace) -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * x.flatten(1)[:, :4]

    bundle = toy.ToyBundle(toy.ToySplit(37, seed=8))
    config = TrainConfig(epochs=1, batch_size=16, lr=1e-30, schedule="step")
    _, outcome = run(config, model=Frozen(), bundle=bundle)
    seed = bundle.train.calls[0][0]
    inputs, targets = next(iter(bundle.train.batches(37, shuffle_seed=seed, augment=True)))
    expected = nn.functional.cross_entropy(inputs.double().flatten(1)[:, :4], targets).item()
    assert outcome.history[0].train_loss == pytest.approx(expected, rel=1e-6)


def test_a_last_batch_of_one_image_is_left_out(run: Run, toy: SimpleNamespace) -> None:
    sizes: list[int] = []
    model = toy.toy_net()
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])) if module.training else None)
    run(TrainConfig(epochs=1, batch_size=16, select="last"), model=model)  # 65 images
    assert sizes == [16, 16, 16, 16]
    sizes.clear()
    run(TrainConfig(epochs=1, batch_size=1), model=model, bundle=toy.ToyBundle(toy.ToySplit(3, seed=1)))
    assert sizes == [1, 1, 1]


def test_a_single_image_is_too_few(run: Run, toy: SimpleNamespace) -> None:
    with pytest.raises(TrainingError, match="toy: 1 training images; at least 2 are needed"):
        run(bundle=toy.ToyBundle(toy.ToySplit(1, seed=1)))


@pytest.mark.parametrize("steps_before", [2, 55])
def test_a_loss_that_is_not_finite_names_epoch_and_step(run: Run, toy: SimpleNamespace, steps_before: int) -> None:
    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, 4)
            self.steps = 0

        def forward(self, x: Tensor) -> Tensor:
            self.steps += self.training
            return self.linear(x.flatten(1)) * (math.nan if self.steps == 60 + steps_before + 1 else 1)

    bundle = toy.ToyBundle(toy.ToySplit(120, seed=1))
    with pytest.raises(TrainingError) as caught:
        run(TrainConfig(epochs=3, batch_size=2, lr=0.01), model=Breaks(), bundle=bundle)
    message = str(caught.value)
    assert message.startswith(f"toy: the loss is nan at epoch 2, step {steps_before + 1} of 60; likely lr 0.01 is too")
    assert "\n" not in message


def test_bf16_trains_and_keeps_weights_in_fp32(run: Run, tmp_path: Path) -> None:
    config = TrainConfig(epochs=5, batch_size=16, lr=0.05)
    half, outcome = run(config, runtime=RuntimeConfig(precision="bf16"))
    full, expected = run(config, state_dir=tmp_path / "full")
    assert outcome.history[-1].train_loss < 0.8 * outcome.history[0].train_loss
    assert outcome.history[-1].train_loss == pytest.approx(expected.history[-1].train_loss, rel=0.05)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
    assert not same(half, full)

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from oba.errors import ScoreError
from oba.importance.batches import Batch, Doubts, Loss, numbered

X = torch.zeros(3, 2)

LOSSES = [
    F.cross_entropy,
    nn.CrossEntropyLoss(),
    F.nll_loss,
    nn.NLLLoss(),
    partial(F.cross_entropy, label_smoothing=0.1),
]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("wrong", [-1, 2, -100])
def test_a_target_out_of_range_is_refused(loss: Loss, wrong: int) -> None:
    batch = Batch(4, X, torch.tensor([0, 1, wrong]), loss)
    with pytest.raises(ScoreError, match=rf"batch 4: target {wrong} is out of range; allowed: 0..1"):
        batch.loss_of(torch.zeros(3, 2))


def test_targets_in_range_and_soft_targets_are_accepted() -> None:
    assert Batch(0, X, torch.tensor([0, 1, 1]), F.cross_entropy).loss_of(X).item() == pytest.approx(0.6931, abs=1e-4)
    assert Batch(0, X, torch.full((3, 2), 0.5), F.cross_entropy).loss_of(X).item() == pytest.approx(0.6931, abs=1e-4)


def test_any_loss_and_any_outputs_are_accepted() -> None:
    batch = Batch(0, X, "anything", lambda outputs, targets: outputs[0].sum() + len(targets))
    assert batch.loss_of((torch.ones(2), "more")).item() == 10


def test_a_loss_that_fails_is_reported() -> None:
    batch = Batch(1, X, torch.tensor([0, 1, 7]), lambda y, t: F.cross_entropy(y, t))
    with pytest.raises(ScoreError, match="batch 1: the loss failed: Target 7 is out of bounds"):
        batch.loss_of(X)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ScoreError, match=f"batch 2: the loss is {value}, expected a finite number"):
        Batch(2, X, None, lambda y, t: torch.tensor(value)).loss_of(X)


def test_a_loss_for_each_example_is_refused() -> None:
    with pytest.raises(ScoreError, match=r"batch 2: the loss has shape \(3,\), expected a scalar"):
        Batch(2, X, None, lambda y, t: y.sum(1)).loss_of(X)


def test_batches_are_numbered_one_by_one() -> None:
    taken = []

    def source() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for i in (3, 1):
            taken.append(i)
            yield torch.zeros(i, 2), torch.zeros(i)

    stream = numbered(source(), F.cross_entropy)
    first = next(stream)
    assert (first.index, first.examples, taken) == (0, 3, [3])
    assert [(b.index, b.examples) for b in stream] == [(1, 1)]


def test_no_batch_and_no_examples_are_refused() -> None:
    with pytest.raises(ScoreError, match="the iterable of batches is empty"):
        list(numbered([], F.cross_entropy))
    with pytest.raises(ScoreError, match="batch 1 has no examples"):
        list(numbered([(X, X), (X[:0], X[:0])], F.cross_entropy))


def test_on_a_gpu_faults_are_looked_at_once() -> None:
    doubts = Doubts()
    good = Batch(0, X, torch.tensor([0, 1, 1]), F.cross_entropy, doubts)
    assert good.loss_of(X).item() == pytest.approx(0.6931, abs=1e-4)
    doubts.settle()
    assert Batch(1, X, torch.tensor([0, 1, 9]), F.cross_entropy, doubts).loss_of(X).isfinite()
    assert Batch(2, X, None, lambda y, t: y.sum() + torch.nan, doubts).loss_of(X).isnan()
    with pytest.raises(ScoreError, match=r"^batch 1: target 9 is out of range; allowed: 0..1$"):
        doubts.settle()

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from oba.errors import TrainingError
from oba.training.evaluation import evaluate, frequent_errors

CPU = torch.device("cpu")


def naive(model: nn.Module, split: Any) -> tuple[float, float, float]:
    """Loss, top-1 and top-5 image by image, in float64."""
    model.eval()
    losses, first, five = [], [], []
    with torch.no_grad():
        for image, target in zip(split.inputs, split.targets.tolist(), strict=True):
            logits = model(image[None])[0].double()
            losses.append(-logits.log_softmax(0)[target].item())
            order = logits.sort(descending=True).indices.tolist()
            first.append(order[0] == target)
            five.append(target in order[:5])
    return tuple(sum(values) / len(values) for values in (losses, first, five))  # pyright: ignore[reportReturnType]


def linear(classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, classes))


@pytest.mark.parametrize("batch_size", [1, 7, 30, 64])
@pytest.mark.parametrize("classes", [4, 10, 12])
def test_every_image_counts_the_same(toy: SimpleNamespace, batch_size: int, classes: int) -> None:
    split = toy.ToySplit(30, seed=5, classes=classes)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = linear(classes)
    metrics = evaluate(model, split, batch_size=batch_size, device=CPU)
    loss, top1, top5 = naive(model, split)
    assert metrics.loss == pytest.approx(loss, rel=1e-6)
    assert metrics.top1 == pytest.approx(top1, abs=1e-12)
    assert metrics.top5 == (None if classes < 10 else pytest.approx(top5, abs=1e-12))
    assert metrics.images == 30


def test_the_confusion_counts_each_image_at_its_class_and_at_what_it_was_taken_for(toy: SimpleNamespace) -> None:
    split = toy.ToySplit(30, seed=5, classes=4)
    model = linear(4).eval()
    metrics = evaluate(model, split, batch_size=7, device=CPU)
    with torch.no_grad():
        taken = model(split.inputs).argmax(1).tolist()
    expected = [[0] * 4 for _ in range(4)]
    for target, other in zip(split.targets.tolist(), taken, strict=True):
        expected[target][other] += 1
    assert metrics.confusion.tolist() == expected
    assert metrics.confusion.trace() / 30 == pytest.approx(metrics.top1)


def test_the_most_frequent_errors_come_first() -> None:
    assert frequent_errors(torch.tensor([[5, 0, 1], [3, 9, 0], [0, 0, 0]])) == [[1, 0, 3], [0, 2, 1]]
    many = frequent_errors(torch.ones(150, 150, dtype=torch.int64))
    assert len(many) == 10_000


def test_two_classes_are_enough(toy: SimpleNamespace) -> None:
    metrics = evaluate(linear(2), toy.ToySplit(30, seed=5, classes=2), batch_size=8, device=CPU)
    assert metrics.top5 is None
    assert 0 <= metrics.top1 <= 1


def test_modes_are_restored_module_by_module_also_after_an_error(toy: SimpleNamespace) -> None:
    model = toy.toy_net()
    model.head.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    assert len(set(modes.values())) == 2
    evaluate(model, toy.ToySplit(5, seed=1), batch_size=2, device=CPU)
    assert {name: module.training for name, module in model.named_modules()} == modes
    with pytest.raises(RuntimeError):
        evaluate(model, toy.ToySplit(5, seed=1, channels=3), batch_size=2, device=CPU)
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_evaluation_changes_nothing_and_is_without_augmentation(toy: SimpleNamespace) -> None:
    model, split = toy.toy_net(), toy.ToySplit(9, seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluate(model, split, batch_size=4, device=CPU)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert split.calls == [(None, False)]


def test_bf16_is_near_fp32(toy: SimpleNamespace) -> None:
    model, split = toy.toy_net(), toy.ToySplit(30, seed=1)
    full = evaluate(model, split, batch_size=8, device=CPU)
    half = evaluate(model, split, batch_size=8, device=CPU, precision="bf16")
    assert half.loss == pytest.approx(full.loss, rel=0.02)
    assert half.loss != full.loss


def test_an_empty_split_is_refused(toy: SimpleNamespace) -> None:
    with pytest.raises(TrainingError, match="no images to evaluate on"):
        evaluate(linear(4), toy.ToySplit(0, seed=1), batch_size=8, device=CPU)


def test_a_loss_that_is_not_finite_is_refused(toy: SimpleNamespace) -> None:
    model = linear(4)
    nn.init.constant_(model.get_parameter("3.bias"), torch.nan)
    with pytest.raises(TrainingError, match=r"the loss on 5 images is nan: the net's weights or statistics"):
        evaluate(model, toy.ToySplit(5, seed=1), batch_size=8, device=CPU)

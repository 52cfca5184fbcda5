from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oba.errors import TrainingError
from oba.training.evaluation import evaluate, recalibrate_norm

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


class Norms(nn.Module):
    """A batch norm with statistics, one without, dropout and an instance norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2, momentum=0.3)
        self.dropout = nn.Dropout(0.5)
        self.without = nn.BatchNorm2d(2, track_running_stats=False)
        self.instance = nn.InstanceNorm2d(2, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.instance(self.without(self.dropout(self.norm(x))))


def test_recalibrated_statistics_are_means_over_batches_weighted_by_images(toy: SimpleNamespace) -> None:
    split = toy.ToySplit(20, seed=4, channels=2)
    model = Norms()
    instance = {name: tensor.clone() for name, tensor in model.instance.state_dict().items()}
    model.norm.running_mean.fill_(9)  # pyright: ignore[reportOptionalMemberAccess]
    model.dropout.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    recalibrate_norm(model, split, batch_size=8)
    parts = split.inputs.double().split(8)
    weights = torch.tensor([8, 8, 4], dtype=torch.float64) / 20
    mean = weights @ torch.stack([part.mean(dim=(0, 2, 3)) for part in parts])
    variance = weights @ torch.stack([part.transpose(0, 1).flatten(1).var(dim=1) for part in parts])
    torch.testing.assert_close(model.norm.running_mean, mean.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.norm.running_var, variance.float(), rtol=1e-5, atol=1e-6)
    assert model.norm.momentum == 0.3
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(tensor, instance[name]) for name, tensor in model.instance.state_dict().items())


def test_with_equal_batches_recalibration_is_torchs_cumulative_average(toy: SimpleNamespace) -> None:
    split = toy.ToySplit(24, seed=4, channels=2)
    model, expected = Norms(), nn.BatchNorm2d(2, momentum=None)
    recalibrate_norm(model, split, batch_size=8)
    for inputs, _ in split.batches(8):
        expected(inputs)
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(model.norm.state_dict()[name], tensor, rtol=1e-6, atol=1e-7)


def test_a_batch_of_one_image_is_left_out_of_recalibration(toy: SimpleNamespace) -> None:
    split = toy.ToySplit(9, seed=4)
    model = toy.toy_net()
    recalibrate_norm(model, split, batch_size=8)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    assert model.body.bn1.num_batches_tracked == 1


def test_recalibration_without_enough_images_is_refused(toy: SimpleNamespace) -> None:
    with pytest.raises(TrainingError, match="no batch holds two images or more"):
        recalibrate_norm(toy.toy_net(), toy.ToySplit(1, seed=4), batch_size=8)


def test_nets_without_batch_norm_have_nothing_to_recalibrate(toy: SimpleNamespace) -> None:
    split = toy.ToySplit(9, seed=4)
    recalibrate_norm(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), split, batch_size=8)
    assert split.calls == []

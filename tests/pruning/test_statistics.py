"""Norm statistics and losses on calibration images."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oba.errors import ScoreError
from oba.pruning.cut import Images
from oba.pruning.statistics import mean_loss, recalibrate_norms, tracking_norms


class Norms(nn.Module):
    """A batch norm with statistics, one without, dropout and an instance norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2, momentum=0.3)
        self.dropout = nn.Dropout(0.5)
        self.without = nn.BatchNorm2d(2, track_running_stats=False)
        self.instance = nn.InstanceNorm2d(2, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.instance(self.without(self.dropout(self.norm(x)))).flatten(1)


def batches(*sizes: int) -> tuple[list[tuple[Tensor, Tensor]], Images]:
    draw = torch.Generator().manual_seed(4)
    found = [(torch.randn(n, 2, 4, 4, generator=draw) * 3 + 1, torch.randint(32, (n,), generator=draw)) for n in sizes]
    return found, lambda: iter(found)


def modes(model: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules()}


def weighted(values: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    return sum((n * v for n, v in zip(sizes, values, strict=True)), torch.zeros(())) / sum(sizes)


def test_recalibrated_statistics_are_means_over_batches_weighted_by_images() -> None:
    sizes = (8, 8, 4)
    parts, images = batches(*sizes)
    model = Norms()
    instance = {name: tensor.clone() for name, tensor in model.instance.state_dict().items()}
    model.norm.running_mean.fill_(9)  # pyright: ignore[reportOptionalMemberAccess]
    model.dropout.eval()
    before = modes(model)
    recalibrate_norms(model, images)
    mean = weighted([x.mean((0, 2, 3)) for x, _ in parts], sizes)
    variance = weighted([x.transpose(0, 1).flatten(1).var(1) for x, _ in parts], sizes)
    torch.testing.assert_close(model.norm.running_mean, mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.norm.running_var, variance, rtol=1e-5, atol=1e-6)
    assert model.norm.momentum == 0.3
    assert modes(model) == before
    assert all(torch.equal(tensor, instance[name]) for name, tensor in model.instance.state_dict().items())


def test_with_equal_batches_recalibration_is_torchs_cumulative_average() -> None:
    parts, images = batches(8, 8, 8)
    model, expected = Norms(), nn.BatchNorm2d(2, momentum=None)
    recalibrate_norms(model, images)
    for inputs, _ in parts:
        expected(inputs)
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(model.norm.state_dict()[name], tensor, rtol=1e-6, atol=1e-7)


def test_a_batch_of_one_image_is_left_out_of_recalibration() -> None:
    """A batch norm over features has no variance to take from it."""
    model, same = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(32)), nn.BatchNorm1d(32)
    parts, images = batches(8, 1)
    recalibrate_norms(model, images)
    recalibrate_norms(same, lambda: [(parts[0][0].flatten(1), parts[0][1])])
    assert torch.equal(model.get_buffer("1.running_var"), same.get_buffer("running_var"))
    assert model.get_buffer("1.num_batches_tracked") == 1


def test_recalibration_without_enough_images_is_refused() -> None:
    model = Norms()
    with pytest.raises(ScoreError, match="no calibration batch holds two images or more"):
        recalibrate_norms(model, batches(1, 1)[1])
    assert model.norm.momentum == 0.3


def test_without_norms_no_image_is_looked_at() -> None:
    looked_at: list[str] = []

    def images():
        looked_at.append("images")
        return iter(())

    recalibrate_norms(nn.Linear(2, 2), images)
    assert looked_at == []


def test_norms_that_keep_statistics_are_found() -> None:
    model = Norms()
    assert tracking_norms(model) == [model.norm]


def test_the_mean_loss_counts_every_image_the_same() -> None:
    parts, images = batches(7, 2, 1)
    model = Norms().train()
    state, before = copy.deepcopy(model.state_dict()), modes(model)
    found = mean_loss(model, images)
    assert modes(model) == before
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    model.eval()
    model.without.train()  # it has no other statistics than the batch's
    losses = [F.cross_entropy(model(x), y).item() for x, y in parts]
    assert found == pytest.approx((7 * losses[0] + 2 * losses[1] + losses[2]) / 10, rel=1e-6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_is_none(value: float) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 32))
    nn.init.constant_(model.get_parameter("1.bias"), value)
    assert mean_loss(model, batches(3)[1]) is None

"""What the ways to the Hessian of masks refuse, in one line."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from masked_nets import BY_NAME, Loss, drawn, group, hessian_of, made, roots_of, squared
from scoring import raw_scores
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from oba.errors import ScoreError
from oba.importance.batches import Batch
from oba.importance.hessians import coupling_norm
from oba.importance.state import left_as_found


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (squared, "'gauss-newton' holds for cross-entropy alone; with another loss: exact, probes"),
        (nn.CrossEntropyLoss(weight=torch.ones(3).double()), "'gauss-newton' holds for cross-entropy alone"),
        (nn.CrossEntropyLoss(ignore_index=1), "'gauss-newton' holds for cross-entropy alone"),
        (functools.partial(F.cross_entropy, reduction="sum"), "'gauss-newton' holds for cross-entropy alone"),
    ],
)
def test_gauss_newton_refuses_another_loss(loss: Loss, message: str) -> None:
    net = BY_NAME["mlp"]
    model, batch = made(net, loss=loss)
    with pytest.raises(ScoreError, match=f"hessian: {message}"):
        roots_of(model, net.groups, batch, 3, drawn())


def test_gauss_newton_refuses_statistics_of_the_batch() -> None:
    net = BY_NAME["residual"]
    model, batch = made(net)
    with left_as_found(model, "train"), pytest.raises(ScoreError, match="do not depend on each other, but 'norm' norm"):
        roots_of(model, net.groups, batch, 3, drawn())
    free = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)).eval()
    assert coupling_norm(free) == "1"
    assert not coupling_norm(model.eval())


def test_gauss_newton_refuses_outputs_that_are_no_logits() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3), nn.Unflatten(1, (3, 1))).double()
    groups = [group("0", 3, ("0", "out"), ("1", "in"))]
    batch = Batch(0, torch.ones(2, 4, dtype=torch.float64), torch.zeros(2, 1, dtype=torch.int64), F.cross_entropy)
    with pytest.raises(ScoreError, match=r"needs logits of shape \(examples, classes\), not shape \(2, 3, 1\)"):
        roots_of(model, groups, batch, 3, drawn())


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradients[0] * 2


class Apply(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Once.apply(x)


def test_what_can_be_differentiated_only_once_has_no_exact_rows() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3), Apply()).double()
    groups = [group("0", 3, ("0", "out"), ("1", "in"))]
    batch = Batch(0, torch.ones(2, 4, dtype=torch.float64), torch.tensor([0, 1]), F.cross_entropy)
    with pytest.raises(ScoreError, match="an operation can be differentiated only once"):
        hessian_of(model, groups, batch)
    assert roots_of(model, groups, batch, 3, drawn()).diagonal().min() > 0
    model, margin = model[:2], Batch(0, batch.inputs, batch.targets, F.multi_margin_loss)
    with pytest.raises(ScoreError, match="the second derivative failed at the model itself: derivative for aten::mult"):
        hessian_of(model, groups, margin).matrix()


def test_a_value_that_is_overwritten_although_it_is_needed_is_reported() -> None:
    class Overwrite(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (y := torch.exp(x)).add_(1) + y

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3), Overwrite()).double()
    groups = [group("0", 3, ("0", "out"), ("1", "in"))]
    batch = Batch(0, torch.ones(2, 4, dtype=torch.float64), torch.tensor([0, 1]), F.cross_entropy)
    for way in (
        lambda: hessian_of(model, groups, batch),
        lambda: roots_of(model, groups, batch, 3, drawn()),
    ):
        with pytest.raises(ScoreError, match="the derivative failed at the model itself: one of the variables needed"):
            way()


@pytest.mark.parametrize("criterion", ["oba-diag", "oba-joint", "fisher"])
def test_the_inside_of_an_attention_cannot_be_masked(criterion: str) -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.attention(x, x, x)[0].mean(1))

    groups = [group("values", 4, ("attention.out_proj", "in"))]
    batch = torch.ones(2, 5, 4), torch.tensor([0, 2])
    with pytest.raises(
        ScoreError, match=r"layer 'attention.out_proj' is a part of an nn.MultiheadAttention, inside of"
    ):
        raw_scores(Attends(), groups, [batch], criterion)

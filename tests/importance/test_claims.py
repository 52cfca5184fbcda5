"""What docs/method.md says that scores can and cannot tell; other identities are tested with each criterion."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from scoring import raw_scores
from torch import Tensor, nn

from oba.importance import parameter_scores, score_structures
from oba.importance.masks import masked, removal_masks
from oba.structures import Slice, StructureGroup

ROWS = ((0,), (1,), (2,), (3,))
GROUP = StructureGroup("0", (Slice("0", "out", ROWS), Slice("1", "in", ROWS)))
DATA_FREE = ("bn-scale", "fpgm", "lamp", "magnitude", "random")


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - F.one_hot(targets, 3)).square().sum(1).mean()


@pytest.fixture
def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)).double()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(7, 5, generator=generator, dtype=torch.float64), torch.randint(3, (7,), generator=generator)


@torch.no_grad()
def true_change(model: nn.Module, batch: tuple[Tensor, Tensor], removed: tuple[int, ...]) -> float:
    inputs, targets = batch
    dense = squared(model(inputs), targets)
    with masked(model, [GROUP], removal_masks([GROUP], {"0": removed})):
        return (squared(model(inputs), targets) - dense).item()


def test_where_the_loss_is_quadratic_the_joint_model_is_the_truth_for_every_set(linear, batch):
    model = score_structures(linear, [GROUP], [batch], "oba-joint", loss=squared, hessian="exact")
    for size in range(5):
        for removed in combinations(range(4), size):
            truth = true_change(linear, batch, removed)
            assert model.change({"0": removed}) == pytest.approx(truth, rel=1e-10, abs=1e-12)


def test_there_the_diagonal_is_the_truth_alone_and_not_for_sets(linear, batch):
    alone = raw_scores(linear, [GROUP], [batch], "oba-diag", loss=squared, hessian="exact")["0"]
    for c in range(4):
        assert alone[c].item() == pytest.approx(true_change(linear, batch, (c,)), rel=1e-10)
    pairs = [abs(alone[[c, d]].sum().item() - true_change(linear, batch, (c, d))) for c, d in combinations(range(4), 2)]
    assert max(pairs) > 0.01


def test_there_first_order_and_the_sum_over_everything_predict_neither(linear, batch):
    truth = torch.tensor([true_change(linear, batch, (c,)) for c in range(4)], dtype=torch.float64)
    for criterion in ("taylor", "oba", "oba-exact"):
        scores = raw_scores(linear, [GROUP], [batch], criterion, loss=squared, over_layers="sum")["0"]
        assert (scores - truth).abs().max() > 0.01, criterion


def test_the_sum_over_everything_is_what_the_hessian_does_to_all_masks(linear, batch):
    # Scaling the inputs of the second layer is scaling its weight: there θ(Hθ), summed over a column, is (H_m 1)_c.
    for parameter in (*linear[0].parameters(), linear[1].bias):
        parameter.requires_grad_(False)
    columns = StructureGroup("0", (Slice("1", "in", ROWS),))
    shares = raw_scores(linear, [columns], [batch], "oba-exact", loss=squared)["0"]
    model = score_structures(linear, [GROUP], [batch], "oba-joint", loss=squared, hessian="exact")
    gradient = raw_scores(linear, [columns], [batch], "taylor", loss=squared)["0"]
    first = parameter_scores(linear, [batch], "taylor", loss=squared)["1.weight"].sum(0)
    assert model.interactions is not None
    torch.testing.assert_close(gradient, first.abs())
    torch.testing.assert_close(model.alone["0"], model.interactions.diagonal() / 2 - first)
    torch.testing.assert_close(shares, model.interactions.sum(1).abs())


@pytest.mark.parametrize("criterion", DATA_FREE)
def test_sizes_of_weights_say_nothing_of_the_loss(criterion):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    nn.init.uniform_(model[1].weight)
    group = StructureGroup("0", (Slice("0", "out", ROWS), Slice("1", "feature", ROWS), Slice("2", "in", ROWS)))

    def never(outputs: Tensor, targets: Tensor) -> Tensor:
        raise AssertionError("the loss was asked for")

    first = raw_scores(model, [group], iter([]), criterion, loss=never)
    second = raw_scores(model, [group], iter([]), criterion, loss=never)
    assert torch.equal(first["0"], second["0"])
    assert first["0"].std() > 0


def test_first_order_scores_cancel_over_batches_and_squares_do_not(linear):
    # At a minimum of the loss the mean gradient is zero: Taylor's signed mean is blind there, Fisher is not.
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    targets = torch.randint(3, (40,), generator=generator)
    with torch.no_grad():
        hidden = torch.cat([linear[0](inputs), torch.ones(40, 1, dtype=torch.float64)], 1)
        best = torch.linalg.lstsq(hidden, F.one_hot(targets, 3).double()).solution.T
        linear[1].weight.copy_(best[:, :4])
        linear[1].bias.copy_(best[:, 4])
    columns = StructureGroup("0", (Slice("1", "in", ROWS),))
    first = raw_scores(linear, [columns], [(inputs, targets)], "taylor", loss=squared)["0"]
    fisher = raw_scores(linear, [GROUP], [(inputs, targets)], "fisher", loss=squared)["0"]
    assert first.max() < 1e-12
    assert fisher.min() > 1e-4

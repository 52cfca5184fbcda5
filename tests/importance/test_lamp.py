from __future__ import annotations

import pytest
import torch
from scoring import raw_scores
from torch import Tensor, nn

from oba.importance import parameter_scores
from oba.structures import Slice, StructureGroup


def naive(weight: Tensor) -> Tensor:
    """What share of the weights at least as large, in squares, each weight is."""
    flat = weight.detach().double().flatten()
    scores = []
    for value in flat:
        left = sum(float(other**2) for other in flat if abs(other) >= abs(value))
        scores.append(float(value**2) / left if left else 0.0)
    return torch.tensor(scores, dtype=torch.float64).view_as(weight)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1, bias=False), nn.Flatten(), nn.Linear(3, 2)
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize("content", ["random", "ties", "zeros", "all zero", "all equal"])
def test_scores_are_those_of_the_definition(content: str) -> None:
    model = net()
    with torch.no_grad():
        for layer in (model[0], model[2], model[4]):
            weight = layer.get_parameter("weight")
            if content == "ties":
                weight.copy_((weight * 5).round() / 5)
                assert len(weight.abs().unique()) < weight.numel()
            elif content == "zeros":
                weight[0] = 0
            elif content != "random":
                weight.fill_(0.0 if content == "all zero" else -0.5)
    found = parameter_scores(model, [], "lamp")
    assert list(found) == ["0.weight", "2.weight", "4.weight"]
    for name, scores in found.items():
        torch.testing.assert_close(scores, naive(model.get_parameter(name)), rtol=1e-12, atol=0)
    if content == "all equal":
        assert found["4.weight"].unique().tolist() == pytest.approx([1 / 6])


def test_the_largest_weight_of_a_layer_scores_one_and_order_is_kept() -> None:
    model = net()
    for name, scores in parameter_scores(model, [], "lamp").items():
        weight = model.get_parameter(name).detach().abs().flatten()
        assert scores.max() == 1
        assert torch.equal(scores.flatten().argsort(), weight.argsort())


def test_scores_do_not_depend_on_the_scale_of_a_layer() -> None:
    model = net()
    expected = parameter_scores(model, [], "lamp")
    with torch.no_grad():
        model.get_parameter("0.weight").mul_(-1e-3)
    for name, scores in parameter_scores(model, [], "lamp").items():
        torch.testing.assert_close(scores, expected[name], rtol=1e-12, atol=0)


def test_many_small_weights_in_single_precision_keep_their_share() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(200, 200))
    weight = model.get_parameter("0.weight").detach().double()
    found = parameter_scores(model, [], "lamp")["0.weight"]
    assert found.dtype == torch.float32
    for value, score in zip(weight.flatten()[::401], found.flatten()[::401], strict=True):
        left = weight[weight.abs() >= value.abs()].square().sum()
        assert score.item() == pytest.approx((value.square() / left).item(), rel=1e-6)


def test_structures_add_up_their_weights() -> None:
    model = net()
    scores = parameter_scores(model, [], "lamp")
    rows = tuple((i,) for i in range(4))
    group = StructureGroup("0", (Slice("0", "out", rows), Slice("1", "feature", rows), Slice("2", "in", rows)))
    found = raw_scores(model, [group], [], "lamp")["0"]
    expected = (scores["0.weight"].sum((1, 2, 3)) + scores["2.weight"].sum((0, 2, 3))) / 2
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)

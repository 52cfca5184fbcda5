"""Scores of single weights: joined over batches, never negative, against their definitions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo import ZOO

from oba import registry
from oba.curvature import layer_parameters
from oba.errors import ScoreError
from oba.importance import parameter_scores
from oba.importance.criterion import make_criterion
from oba.importance.weights import weight_scores
from oba.options import part

ABLE = [name for name in registry.names("criterion") if part("criterion", name).for_weights()]
MEMBER = next(member for member in ZOO if member.name == "conv_bn")
BATCHES = [MEMBER.batch(size, seed) for seed, size in enumerate((4, 3))]


def weights_of(model: nn.Module) -> list[str]:
    return [name for name in layer_parameters(model) if model.get_parameter(name).dim() > 1]


def scored(criterion: str, model: nn.Module | None = None, batches: Any = BATCHES, **options: Any) -> dict[str, Tensor]:
    model = model or MEMBER.make()
    return weight_scores(model, weights_of(model), batches, make_criterion(criterion, seed=1, **options))


def test_which_criteria_score_weights():
    assert {"oba", "oba-exact", "taylor", "fisher", "magnitude", "lamp", "random"} <= {*ABLE}
    assert not {"oba-diag", "oba-joint", "fpgm", "bn-scale", "reconstruction"} & {*ABLE}


@pytest.mark.parametrize("criterion", ABLE)
def test_every_weight_has_a_score_that_is_not_negative(criterion):
    model = MEMBER.make()
    found = scored(criterion, model)
    assert list(found) == weights_of(model)
    for name, score in found.items():
        assert score.shape == model.get_parameter(name).shape
        assert (score.dtype, score.requires_grad) == (torch.float32, False)
        assert (score >= 0).all()
        assert score.max() > 0
    assert all(torch.equal(score, found[name]) for name, score in scored(criterion).items())


@pytest.mark.parametrize("criterion", ["taylor", "oba"])
def test_batches_are_joined_as_asked(criterion):
    model = MEMBER.make()
    signed = [parameter_scores(model, [batch], criterion) for batch in BATCHES]
    name = weights_of(model)[0]
    first, second = (scores[name].double() for scores in signed)
    expected = {
        "abs-of-mean": ((4 * first + 3 * second) / 7).abs(),
        "mean-of-abs": (4 * first.abs() + 3 * second.abs()) / 7,
        "rms": ((4 * first**2 + 3 * second**2) / 7).sqrt(),
    }
    for how, value in expected.items():
        torch.testing.assert_close(scored(criterion, over_batches=how)[name].double(), value, rtol=1e-5, atol=1e-12)


def test_the_size_of_a_weight_is_added_to_the_normalised_score():
    model = MEMBER.make()
    plain, added = scored("taylor", model), scored("taylor", model, add_magnitude=True)
    highest = max(score.max() for score in plain.values())
    for name, score in added.items():
        torch.testing.assert_close(score, plain[name] / highest + model.get_parameter(name).detach().abs().float())


def test_a_weight_without_a_score_is_refused():
    model = MEMBER.make()
    name = weights_of(model)[0]
    model.get_parameter(name).requires_grad_(False)
    with pytest.raises(ScoreError, match=f"criterion 'taylor' has no score for weight '{name}'; allowed: another"):
        scored("taylor", model)


def test_scores_that_are_not_finite_are_refused():
    model = MEMBER.make()
    name = weights_of(model)[0]
    with torch.no_grad():
        model.get_parameter(name).view(-1)[0] = float("nan")
    with pytest.raises(ScoreError, match=f"criterion 'magnitude': the scores of weight '{name}' are not finite"):
        scored("magnitude", model)


class Everything(nn.Module):
    """Convolutions of all kinds, a layer that is called twice, and a Linear on tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect", bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 4, 3, stride=2, groups=2, dilation=1, padding=1)
        self.twice = nn.Conv2d(4, 4, 1)
        self.tokens = nn.Linear(4, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)), inplace=True)
        x = self.twice(F.relu(self.twice(self.grouped(x))))
        return self.head(F.gelu(self.tokens(x.flatten(2).mT)).mean(1))


@pytest.fixture
def everything() -> tuple[nn.Module, Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = Everything().double()
        nn.init.uniform_(net.norm.running_var, 0.5, 2)
        return net, torch.randn(5, 2, 6, 6).double(), torch.tensor([0, 1, 2, 0, 1])


@pytest.mark.parametrize(("criterion", "factor"), [("fisher", 1), ("c-obd", 0.5)])
def test_fisher_is_the_mean_square_of_single_gradients(everything, criterion, factor):
    net, images, targets = everything
    options = {"labels": "given"} if criterion == "c-obd" else {}
    found = scored(criterion, net, [(images[:3], targets[:3]), (images[3:], targets[3:])], **options)
    net.eval()
    squares = {name: torch.zeros_like(net.get_parameter(name)) for name in weights_of(net)}
    for n in range(5):
        loss = F.cross_entropy(net(images[n : n + 1]), targets[n : n + 1])
        gradients = torch.autograd.grad(loss, [net.get_parameter(name) for name in squares])
        for name, gradient in zip(squares, gradients, strict=True):
            squares[name] += gradient**2 / 5
    assert list(found) == ["first.weight", "grouped.weight", "twice.weight", "tokens.weight", "head.weight"]
    for name, score in found.items():
        expected = factor * squares[name] * net.get_parameter(name).detach() ** 2
        torch.testing.assert_close(score.double(), expected, rtol=1e-5, atol=1e-14)


def test_with_statistics_of_the_batch_an_example_has_its_part_of_the_batchs_gradient(everything):
    net, images, targets = everything
    inputs = []
    net.head.register_forward_hook(lambda _, arguments, logits: inputs.append((arguments[0], logits)))
    found = scored("fisher", net, [(images, targets)], norm="train")["head.weight"]
    [(x, logits)] = inputs
    with torch.no_grad():
        derivatives = logits.softmax(1) - F.one_hot(targets, 3)
        expected = (derivatives.square().mT @ x.square() / 5) * net.head.weight**2
        alone = net.eval()(images)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-14)
    assert not torch.allclose(logits, alone)


@pytest.mark.parametrize("by", ["fisher", "c-obd"])
def test_attention_that_computes_with_its_weights_itself_has_no_fisher_score(by):
    net = nn.TransformerEncoderLayer(4, 2, 8).eval()
    criterion = make_criterion(by)
    criterion.require_weights(net, ["linear1.weight", "linear2.weight"])
    for name in ("self_attn.in_proj_weight", "self_attn.out_proj.weight"):
        with pytest.raises(ScoreError, match=f"weight '{name}': criterion '{by}' scores weights of Conv and Linear"):
            criterion.require_weights(net, ["linear1.weight", name])


def test_lamp_scores_attention_too():
    net = nn.Module()
    net.attention = nn.MultiheadAttention(4, 2)
    found = scored("lamp", net)
    assert list(found) == ["attention.in_proj_weight", "attention.out_proj.weight"]
    squares = net.attention.in_proj_weight.detach().double().flatten() ** 2
    expected = torch.stack([square / squares[squares >= square].sum() for square in squares])
    torch.testing.assert_close(found["attention.in_proj_weight"].flatten().double(), expected, rtol=1e-5, atol=1e-9)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo import CASES, IDS, Member

from oba.curvature import nested_gradient, parameter_layers
from oba.importance import parameter_scores
from oba.importance.batches import Batch
from oba.importance.criterion import make_criterion
from oba.importance.slices import channel_sums
from oba.importance.state import left_as_found

GOLDEN = Path(__file__).parent / "golden"


class GoldenResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c0, self.n0 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.c1, self.n1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.c2, self.n2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.pool, self.fc = nn.AvgPool2d(4), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.n0(self.c0(x)))
        y = self.n2(self.c2(F.relu(self.n1(self.c1(h)))))
        return self.fc(self.pool(F.relu(y + h)).flatten(1))


def golden_plain() -> nn.Module:
    layers: list[nn.Module] = []
    for i, o in ((3, 8), (8, 16), (16, 16)):
        layers += [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
    return nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize(("name", "build"), [("plain_bn", golden_plain), ("residual_bn", GoldenResidual)])
def test_golden_scores(name: str, build: type[nn.Module]) -> None:
    data = {key: torch.from_numpy(value) for key, value in np.load(GOLDEN / f"{name}.npz").items()}
    model = build().double()
    model.load_state_dict({k.removeprefix("param/"): v for k, v in data.items() if k.startswith("param/")})
    found = parameter_scores(model, [(data["x"], data["y"])], "oba", norm="train")
    golden = {k.removeprefix("score/"): v for k, v in data.items() if k.startswith("score/")}
    assert len(golden) == 3
    for position, (key, expected) in enumerate(golden.items()):
        error = (found[key] - expected).abs().max() / expected.abs().max()
        assert error < (1e-13 if position < 2 else 1e-4), (key, float(error))
    with left_as_found(model, "train"):
        torch.testing.assert_close(F.cross_entropy(model(data["x"]), data["y"]), data["loss"])


PIECEWISE_LINEAR = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.LeakyReLU(), nn.Linear(5, 3)), (4,)),
    "conv": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 4, 3, groups=2, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU6(),
            nn.Conv2d(4, 4, 2, bias=False),
            nn.AvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        ),
        (2, 6, 6),
    ),
}


def linear_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs * torch.tensor([1.0, -2.0, 0.5], dtype=outputs.dtype)).sum(1).mean()


@pytest.mark.parametrize("name", PIECEWISE_LINEAR)
def test_piecewise_linear_networks_with_a_linear_loss_have_no_other_curvature(name: str) -> None:
    build, shape = PIECEWISE_LINEAR[name]
    member = Member(name, build, shape)
    model, batch = member.make(), member.batch()
    frozen = parameter_scores(model, [batch], "oba", loss=linear_loss)
    exact = parameter_scores(model, [batch], "oba-exact", loss=linear_loss)
    assert frozen.keys() == exact.keys()
    for key, expected in exact.items():
        assert expected.abs().max() > 1e-4 or key.endswith("bias")
        assert (frozen[key] - expected).abs().max() <= 1e-14 * max(1, expected.abs().max()), key


def _chain() -> nn.Module:
    layers = [
        *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 5, 3, bias=False), nn.InstanceNorm2d(5), nn.ReLU()),
        *(nn.Conv2d(5, 3, 1, bias=False), nn.BatchNorm2d(3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)),
    ]
    for layer in layers:
        if hasattr(layer, "eps"):
            layer.eps = 1e-14
    return nn.Sequential(*layers)


CHAIN = Member("chain", _chain, (2, 6, 6)).make()


def test_in_front_of_norms_with_batch_statistics_the_score_is_a_multiple_of_taylor() -> None:
    batch = Member("chain", nn.Identity, (2, 6, 6)).batch(8)
    taylor = parameter_scores(CHAIN, [batch], "taylor", norm="train")
    oba = parameter_scores(CHAIN, [batch], "oba", norm="train")
    for layer, downstream in (("0", 3), ("3", 2), ("6", 1)):
        first = taylor[f"{layer}.weight"]
        assert first.abs().max() > 1e-4
        torch.testing.assert_close(oba[f"{layer}.weight"], downstream * first, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(first.flatten(1).sum(1), torch.zeros(len(first)).double(), rtol=0, atol=1e-12)
    exact = parameter_scores(CHAIN, [batch], "oba-exact", norm="train")
    for layer in ("0", "3", "6"):
        sums = exact[f"{layer}.weight"].flatten(1).sum(1)
        assert sums.abs().max() < 1e-11 < exact[f"{layer}.weight"].abs().max()


def test_the_sum_over_masks_in_front_of_a_normed_layer_is_minus_the_first_order_score() -> None:
    inputs, targets = Member("chain", nn.Identity, (2, 6, 6)).batch(8)
    with left_as_found(CHAIN, "train"):
        mask = torch.ones(4, dtype=torch.float64, requires_grad=True)
        loss = F.cross_entropy(CHAIN[3:](CHAIN[:3](inputs) * mask[:, None, None]), targets)
        (gradient,) = torch.autograd.grad(loss, mask, retain_graph=True)
        (curvature,) = nested_gradient(loss, [mask], [torch.ones_like(mask)], 2)
    assert gradient.abs().max() > 1e-4
    torch.testing.assert_close(curvature, -gradient, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(("member", "norm"), CASES, ids=IDS)
def test_scores_are_kept_for_layers_alone_and_repeat_bit_for_bit(member: Member, norm: str) -> None:
    model = member.make()
    batches = [member.batch(4, 1), member.batch(3, 2)]
    first = parameter_scores(model, batches, "oba", norm=norm)
    again = parameter_scores(model, batches, "oba", norm=norm)
    parameters = dict(model.named_parameters())
    assert all(torch.equal(first[key], again[key]) for key in again)
    assert first.keys() == again.keys()
    assert all(score.shape == parameters[key].shape and score.dtype == torch.float64 for key, score in first.items())


def test_frozen_layers_have_scores_and_norms_have_none() -> None:
    member = next(member for member, _ in CASES if member.name == "frozen")
    found = parameter_scores(member.make(), [member.batch()], "oba")
    assert list(found) == ["0.weight", "0.bias", "3.weight", "3.bias", "7.weight", "7.bias"]


def test_float32_is_as_good_as_its_precision() -> None:
    member = next(member for member, _ in CASES if member.name == "residual")
    model, (inputs, targets) = member.make(), member.batch()
    exact = parameter_scores(model, [(inputs, targets)], "oba")
    rough = parameter_scores(model.float(), [(inputs.float(), targets)], "oba")
    for key, expected in exact.items():
        assert rough[key].dtype == torch.float32
        torch.testing.assert_close(rough[key].double(), expected, rtol=1e-3, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize(("member", "norm"), CASES, ids=IDS)
def test_channel_scores_are_sums_of_parameter_scores(member: Member, norm: str) -> None:
    model, (inputs, targets) = member.make(), member.batch()
    batch = Batch(0, inputs, targets, F.cross_entropy)
    channels = [(name, axis) for name in parameter_layers(model) for axis in ("out", "in")]
    with left_as_found(model, norm):
        criterion = make_criterion("oba")
        scores = criterion.parameter_scores(model, batch)
        expected = channel_sums(model, scores, channels)
        found = criterion.channel_scores(model, channels, batch)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        # Rounding is relative to the terms of the sum, not to the sum.
        size = scores[f"{key[0]}.weight" if key[0] != "tied" else "second.weight"].abs().sum().item()
        torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-13 * max(size, 1e-3))

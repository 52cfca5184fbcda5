from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from zoo import CASES, IDS, Member

from oba.errors import ScoreError
from oba.importance import parameter_scores
from oba.importance.state import left_as_found


def full_scores(model: nn.Module, inputs: Tensor, targets: Tensor, order: int) -> dict[str, Tensor]:
    """``θ`` times the nested-Jacobian tensor of the trainable parameters, contracted with θ."""
    trainable = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    sizes = [p.numel() for p in trainable.values()]
    point = torch.cat([p.flatten() for p in trainable.values()])

    def loss(flat: Tensor) -> Tensor:
        values = {n: v.view(p.shape) for (n, p), v in zip(trainable.items(), flat.split(sizes), strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, values, (inputs,)), targets)

    derivative = torch.func.jacrev(loss)
    for _ in range(order - 1):
        derivative = torch.func.jacfwd(derivative)
    value = derivative(point)
    for _ in range(order - 1):
        value = value @ point
    scores = (point * value).split(sizes)
    return {n: s.view(p.shape) for (n, p), s in zip(trainable.items(), scores, strict=True)}


def _small(*layers: nn.Module) -> Member:
    return Member("small", lambda: nn.Sequential(*layers), (2, 4, 4))


NETWORKS = {
    "mlp": (_small(nn.Flatten(), nn.Linear(32, 2), nn.Tanh(), nn.Linear(2, 3)), 2),
    "conv": (_small(nn.Conv2d(2, 3, 3), nn.GELU(), nn.Conv2d(3, 3, 2), nn.Flatten()), 2),
    # No layer norm: PyTorch's nested Jacobians are wrong for its weight (its Hessian-vector product is right).
    "norms": (
        _small(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.SiLU(), nn.GroupNorm(1, 3), nn.Conv2d(3, 3, 2), nn.Flatten()),
        2,
    ),
    "third": (_small(nn.AvgPool2d(2), nn.Conv2d(2, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(2, 3)), 3),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_those_of_the_full_tensor_of_derivatives(name: str) -> None:
    member, order = NETWORKS[name]
    model, (inputs, targets) = member.make(), member.batch()
    found = parameter_scores(model, [(inputs, targets)], "oba-exact", order=order)
    expected = full_scores(model.eval(), inputs, targets, order)
    assert found.keys() == expected.keys() == dict(model.named_parameters()).keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("member", "norm"), CASES, ids=IDS)
def test_scores_add_up_to_the_curvature_along_the_direction(member: Member, norm: str) -> None:
    model, (inputs, targets) = member.make(), member.batch()
    found = parameter_scores(model, [(inputs, targets)], "oba-exact", norm=norm)
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    assert list(found) == trainable
    step, values = 1e-4, {name: p.detach() for name, p in model.named_parameters()}
    with left_as_found(model, norm), torch.no_grad():

        def at(t: float) -> float:
            moved = {name: values[name] * (1 + t) for name in trainable}
            return F.cross_entropy(torch.func.functional_call(model, moved, (inputs,)), targets).item()

        curvature = (at(step) - 2 * at(0) + at(-step)) / step**2
    if member.name != "detached":
        assert sum(s.sum().item() for s in found.values()) == pytest.approx(curvature, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_homogeneous_chain_has_multiples_of_taylor(order: int) -> None:
    layers = [
        nn.Linear(4, 5, bias=False),
        nn.ReLU(),
        nn.Linear(5, 4, bias=False),
        nn.ReLU(),
        nn.Linear(4, 3, bias=False),
    ]
    member = Member("chain", lambda: nn.Sequential(*layers), (4,))
    model, batch = member.make(), member.batch()

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)).sum(1).mean()

    taylor = parameter_scores(model, [batch], "taylor", loss=loss)
    exact = parameter_scores(model, [batch], "oba-exact", loss=loss, order=order)
    # L is 3-homogeneous in θ: its gradient is 2-homogeneous, and Euler's theorem gives 2, then 2 · 1.
    factor = {1: 1, 2: 2, 3: 2}[order]
    for key, first in taylor.items():
        assert first.abs().max() > 1e-3
        torch.testing.assert_close(exact[key], factor * first, rtol=1e-12, atol=1e-14)


NORMS = [
    nn.BatchNorm2d(3),
    nn.InstanceNorm2d(3, affine=True),
    nn.GroupNorm(1, 3),
    nn.LayerNorm([3, 3, 3]),
    nn.RMSNorm([3, 3, 3]),
]


@pytest.mark.parametrize("layer", [*NORMS, nn.Hardsigmoid()], ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("norm", ["eval", "train"])
@pytest.mark.parametrize("order", [2, 3])
def test_an_order_is_the_difference_of_the_order_below(layer: nn.Module, norm: str, order: int) -> None:
    member = _small(nn.Conv2d(2, 3, 2), layer, nn.SiLU(), nn.Conv2d(3, 3, 3), nn.Flatten())
    model, batch = member.make(), member.batch()
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    scores = parameter_scores(model, [batch], "oba-exact", order=order, norm=norm)
    values, step = {name: p.detach().clone() for name, p in model.named_parameters()}, 1e-4

    def below(t: float) -> dict[str, Tensor]:
        """Return the form of the order below at θ + tθ, in the direction θ."""
        model.load_state_dict({name: value * (1 + t) for name, value in values.items()}, strict=False)
        found = parameter_scores(model, [batch], "oba-exact", order=order - 1, norm=norm)
        return {name: score / (values[name] * (1 + t) ** (order - 1)) for name, score in found.items()}

    ahead, behind = below(step), below(-step)
    for name, score in scores.items():
        expected = values[name] * (ahead[name] - behind[name]) / (2 * step)
        torch.testing.assert_close(score, expected, rtol=1e-5, atol=1e-6)


def test_an_operation_that_cannot_be_differentiated_so_often_is_refused() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        @once_differentiable
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            return gradient * 2

    class Apply(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Once.apply(x)

    model = nn.Sequential(nn.Linear(4, 3), Apply(), nn.Linear(3, 3))
    with pytest.raises(ScoreError, match="an operation can be differentiated only once"):
        parameter_scores(model, [(torch.ones(2, 4), torch.tensor([0, 1]))], "oba-exact")


def test_a_loss_without_trainable_parameters_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with pytest.raises(ScoreError, match="the loss does not depend on any trainable parameter"):
        parameter_scores(model.requires_grad_(False), [(torch.ones(2, 4), torch.tensor([0, 1]))], "oba-exact")


def test_a_loss_that_cannot_be_differentiated_so_often_is_refused() -> None:
    batch = (torch.ones(2, 4), torch.tensor([0, 1]))
    with pytest.raises(ScoreError, match="the derivative of order 2 failed at the model itself: derivative for"):
        parameter_scores(nn.Sequential(nn.Linear(4, 3)), [batch], "oba-exact", loss=F.multi_margin_loss)

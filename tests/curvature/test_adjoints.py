from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from architectures import Swish
from oracle import oracle_adjoints
from torch import Tensor, nn
from zoo import CASES, IDS, Member

from oba.curvature import curvature_adjoints, directed_parameters, layer_parameters, nested_gradient
from oba.errors import ScoreError
from oba.importance.state import left_as_found

X = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)


def adjoints(model: nn.Module, x: Tensor = X, loss: Callable[[Tensor], Tensor] = torch.sum) -> dict[str, Tensor]:
    return curvature_adjoints(model, x, loss, layer_parameters(model))


@pytest.mark.parametrize(("member", "norm"), CASES, ids=IDS)
def test_adjoints_agree_with_linearised_network(member: Member, norm: str) -> None:
    model = member.make()
    inputs, targets = member.batch()
    with left_as_found(model, norm):
        names = directed_parameters(model, inputs[:2])
        found = curvature_adjoints(model, inputs, lambda y: F.cross_entropy(y, targets), names)
        other = copy.deepcopy(model)
        expected = oracle_adjoints(other, inputs, lambda y: F.cross_entropy(y, targets), names, units=(Swish,))
    assert list(found) == names
    largest = max(e.abs().max() for e in expected.values())
    assert largest > 0
    for name in names:
        # The last term is for biases in front of a norm, whose adjoint is zero.
        allowed = 1e-9 * expected[name].abs().max() + 1e-14 * largest
        assert (found[name] - expected[name]).abs().max() <= allowed, name


@pytest.mark.parametrize(("member", "norm"), CASES, ids=IDS)
def test_the_general_path_gives_the_same(member: Member, norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = member.make()
    inputs, targets = member.batch()
    with left_as_found(model, norm):
        names = directed_parameters(model, inputs[:2])
        quick = curvature_adjoints(model, inputs, lambda y: F.cross_entropy(y, targets), names)
        monkeypatch.setattr("oba.curvature.layer_mode.linear_map_of", lambda *_, **__: None)
        general = curvature_adjoints(model, inputs, lambda y: F.cross_entropy(y, targets), names)
    largest = max(g.abs().max() for g in general.values())
    for name, expected in general.items():
        allowed = 1e-9 * expected.abs().max() + 1e-14 * largest
        assert (quick[name] - expected).abs().max() <= allowed, name


class Multilinear(nn.Module):
    """Two directed matrices, multiplied in some way: a polynomial, for which frozen Jacobians are exact."""

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4).double(), nn.Linear(4, 4).double()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.a(x), self.b(x), x)


MULTILINEAR = {
    "mul": lambda a, b, x: torch.mul(a, other=b),
    "operator": lambda a, b, x: 2 * a * b * x,
    "self": lambda a, b, x: a * a * b,
    "in_place": lambda a, b, x: (a + 0).mul_(b).multiply_(a),
    "in_place_operator": lambda a, b, x: _times(a + 0, b),
    "in_place_number": lambda a, b, x: (a + 0).mul_(3.0) * b,
    "in_place_view": lambda a, b, x: _times_column(a + 0, b),
    "matmul": lambda a, b, x: a @ b.mT @ a,
    "mm": lambda a, b, x: torch.mm(a, b.t()),
    "bmm": lambda a, b, x: torch.bmm(a[None], b.mT[None]),
    "mv": lambda a, b, x: a.mv(b[0]) + b.mv(x[0]),
    "dot": lambda a, b, x: torch.dot(a[0], b[1]) + torch.vdot(a[1], b[1]) + torch.linalg.vecdot(a, b).sum(),
    "inner": lambda a, b, x: torch.inner(a, b),
    "outer": lambda a, b, x: torch.outer(a[0], b[0]) + torch.ger(a[1], b[1]),
    "kron": lambda a, b, x: torch.kron(a, b),
    "cross": lambda a, b, x: torch.linalg.cross(a[:, :3], b[:, 1:]),
    "tensordot": lambda a, b, x: torch.tensordot(a, b, dims=2),
    "einsum": lambda a, b, x: torch.einsum("ni,nj,ni->nij", a, b, x),
    "einsum_three": lambda a, b, x: torch.einsum("ni,nj,nk->ijk", a, b, a),
    "multi_dot": lambda a, b, x: torch.linalg.multi_dot([a, b.mT, a]),
    "addmm": lambda a, b, x: torch.addmm(a @ b.mT, a, b.mT, beta=0.5, alpha=-2),
    "addmm_keywords": lambda a, b, x: torch.addmm(a @ b.mT, mat1=a, mat2=b.mT, beta=0),
    "addmm_in_place": lambda a, b, x: (a[:, :3] + 0).addmm_(a, b.mT),
    "addmv": lambda a, b, x: torch.addmv(a[:, 0], a, b[0]),
    "addr": lambda a, b, x: torch.addr(a, a[:, 0], b[0], alpha=0.1),
    "addbmm": lambda a, b, x: torch.addbmm(a[:, :3], a[None], b.mT[None]),
    "baddbmm": lambda a, b, x: torch.baddbmm(a[None, :, :3], a[None], b.mT[None]),
    "addcmul": lambda a, b, x: a.addcmul(a, b, value=3),
    "addcmul_in_place": lambda a, b, x: (a + 0).addcmul_(a, b, value=3),
    "bilinear": lambda a, b, x: F.bilinear(a, b, _cube(), bias=x[0, :2]) + F.bilinear(x, a, _cube()),
    "linear": lambda a, b, x: F.linear(a, b, x[:, 0]),
    "conv": lambda a, b, x: (
        F.conv1d(a[None], b[:, :, None][:, :3, :]) + F.conv_transpose1d(b[None], a[:, :, None])[:, :3]
    ),
    "constant": lambda a, b, x: a * x + 3 * b,
}


def _times(a: Tensor, b: Tensor) -> Tensor:
    a *= b
    return a


def _times_column(a: Tensor, b: Tensor) -> Tensor:
    a[:, 1].mul_(b[:, 0])
    return a * b


def _cube() -> Tensor:
    return torch.arange(32, dtype=torch.float64).reshape(2, 4, 4).sin()


@pytest.mark.parametrize("name", MULTILINEAR)
def test_adjoints_are_exact_for_products_alone(name: str) -> None:
    torch.manual_seed(0)
    model = Multilinear(MULTILINEAR[name])
    slope = torch.cos(torch.arange(model(X).numel(), dtype=torch.float64))

    def loss(y: Tensor) -> Tensor:
        return y.flatten() @ slope

    parameters = list(model.parameters())
    exact = nested_gradient(loss(model(X)), parameters, [p.detach() for p in parameters], 2)
    found = adjoints(model, loss=loss)
    assert any(e.abs().max() > 1e-3 for e in exact) is (name != "constant")
    for value, expected in zip(found.values(), exact, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-11)


def test_adjoints_vanish_without_a_product_of_moving_factors() -> None:
    found = adjoints(nn.Sequential(nn.Linear(4, 2).double(), nn.ReLU()))
    assert [float(f.abs().max()) for f in found.values()] == [0.0, 0.0]


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient * 2


class Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _out(x: Tensor) -> Tensor:
    return torch.mul(x, x, out=torch.empty_like(x))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (Double.apply, r"operation 'Double' of module '1' \(Apply\): You must implement the jvp function"),
        (
            lambda x: torch.linalg.ldl_factor_ex(x @ x.mT)[0],
            r"operation 'linalg_ldl_factor_ex' of module '1' \(Apply\)",
        ),
        (_out, r"operation 'mul' of module '1' \(Apply\)"),
    ],
)
def test_an_operation_that_has_no_tangent_is_named(function: Callable[[Tensor], Tensor], expected: str) -> None:
    model = nn.Sequential(nn.Linear(4, 3), Apply(function), nn.Flatten()).double()
    with pytest.raises(ScoreError, match=f"the forward pass with tangents failed at {expected}"):
        adjoints(model)

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend

from oba.curvature import differentiable_attention, nested_gradient


def small() -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """Return a network of 17 parameters and its loss as a function of one flat vector."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    x = torch.randn(4, 2, dtype=torch.float64)
    targets = torch.tensor([0, 1, 1, 0])
    shapes = {name: p.shape for name, p in model.named_parameters()}

    def loss(flat: Tensor) -> Tensor:
        pieces = flat.split([shape.numel() for shape in shapes.values()])
        values = {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, values, (x,)), targets)

    return model, loss


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def nested(loss: Callable[[Tensor], Tensor], point: Tensor, direction: Tensor, order: int) -> Tensor:
    """Contract the full tensor of k-th derivatives with the direction, k - 1 times."""
    derivative = torch.func.jacrev(loss)
    for _ in range(order - 1):
        derivative = torch.func.jacfwd(derivative)
    value = derivative(point)
    for _ in range(order - 1):
        value = value @ direction
    return value


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_every_order_agrees_with_nested_jacobians(order: int) -> None:
    model, loss = small()
    parameters = list(model.parameters())
    point = flat(parameters).requires_grad_()
    direction = torch.linspace(-1, 1, point.numel(), dtype=torch.float64)
    (found,) = nested_gradient(loss(point), [point], [direction], order)
    expected = nested(loss, point.detach(), direction, order)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_the_hessian_is_symmetric() -> None:
    model, loss = small()
    point = flat(list(model.parameters())).requires_grad_()
    u, v = torch.randn(2, point.numel(), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (hu,) = nested_gradient(loss(point), [point], [u], 2)
    (hv,) = nested_gradient(loss(point), [point], [v], 2)
    assert (u @ hv).abs() > 1e-3
    torch.testing.assert_close(u @ hv, v @ hu, rtol=1e-12, atol=0)


def test_a_linear_function_has_no_second_derivative() -> None:
    point = torch.ones(3, requires_grad=True)
    (found,) = nested_gradient(point.sum(), [point], [torch.ones(3)], 2)
    assert found.tolist() == [0, 0, 0]


def test_a_parameter_that_is_not_used_has_derivative_zero() -> None:
    used, unused = torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)
    found = nested_gradient(used.pow(3).sum(), [used, unused], [torch.ones(3), torch.ones(2)], 2)
    assert [f.tolist() for f in found] == [[6, 6, 6], [0, 0]]


def test_attention_can_be_differentiated_twice() -> None:
    q = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(1, 2, 3, 4).requires_grad_()
    with differentiable_attention():
        assert torch.backends.cuda.math_sdp_enabled()
        value = F.scaled_dot_product_attention(q, q, q).square().sum()
        (found,) = nested_gradient(value, [q], [torch.ones_like(q)], 2)
    assert found.abs().max() > 1e-3
    with torch.nn.attention.sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        value = F.scaled_dot_product_attention(q, q, q).square().sum()
        with pytest.raises(RuntimeError, match="derivative"):
            nested_gradient(value, [q], [torch.ones_like(q)], 2)

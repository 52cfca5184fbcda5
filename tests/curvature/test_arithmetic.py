from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor, nn

from oba.curvature import Arithmetic
from oba.curvature.dual_mode import dual_level

X = torch.linspace(-5, 5, 48, dtype=torch.float64).reshape(2, 3, 4, 2).sin() * 4
MEAN, VARIANCE = torch.tensor([0.1, 0.2, 0.3]).double(), torch.tensor([0.5, 1.0, 2.0]).double()
WEIGHT, BIAS = VARIANCE + 1, MEAN - 1
CALLS: dict[str, Callable[[], Tensor]] = {
    "batch_norm": lambda: F.batch_norm(X, MEAN, VARIANCE, WEIGHT, BIAS, eps=0.1),
    "batch_norm_train": lambda: F.batch_norm(X, MEAN.clone(), VARIANCE.clone(), WEIGHT, None, True),
    "batch_norm_plain": lambda: F.batch_norm(X, None, None, training=True),
    "batch_norm_flat": lambda: nn.BatchNorm1d(3).double()(X[:, :, 0, 0]),
    "instance_norm": lambda: F.instance_norm(X, weight=WEIGHT, bias=BIAS),
    "instance_norm_frozen": lambda: F.instance_norm(X, MEAN, VARIANCE, use_input_stats=False),
    "layer_norm": lambda: F.layer_norm(X, (4, 2), eps=0.2),
    "layer_norm_affine": lambda: nn.LayerNorm(2).double()(X),
    "batch_norm_torch": lambda: torch.batch_norm(X, WEIGHT, BIAS, None, None, True, 0.1, 0.2, False),
    "instance_norm_torch": lambda: torch.instance_norm(X, WEIGHT, BIAS, None, None, True, 0.1, 0.2, False),
    "layer_norm_torch": lambda: torch.layer_norm(X, [4, 2], None, None, 0.2, False),
    "hardsigmoid": lambda: nn.Hardsigmoid()(X),
}
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda x: F.softmax(x, 2),
    "softmax_method": lambda x: x.softmax(-1),
    "softmax_torch": lambda x: torch.softmax(x, 0, torch.float64),
    "softmax_module": lambda x: nn.Softmax(1)(x),
    "softmax_without_dimension": lambda x: F.softmax(x) + F.log_softmax(x.flatten(2)).view_as(x) + F.softmin(x[0]),
    "log_softmax": lambda x: F.log_softmax(x, 1, dtype=torch.float64),
    "log_softmax_method": lambda x: x.log_softmax(dim=2),
    "log_softmax_torch": lambda x: torch.log_softmax(x, 3),
    "logsumexp": lambda x: torch.logsumexp(x, 1) + x.logsumexp((1, 2), keepdim=True).squeeze(1),
    "softmin": lambda x: F.softmin(x, 1),
    "glu": lambda x: F.glu(x, 2) + nn.GLU(2)(x.sin()),
    "batch_norm": lambda x: F.batch_norm(x, MEAN, VARIANCE, WEIGHT, BIAS, eps=0.1),
    "batch_norm_train": lambda x: F.batch_norm(x, MEAN.clone(), VARIANCE.clone(), WEIGHT, None, True),
    "batch_norm_torch": lambda x: torch.batch_norm(x, WEIGHT, BIAS, None, None, True, 0.1, 0.2, False),
    "instance_norm": lambda x: F.instance_norm(x, weight=WEIGHT, bias=BIAS),
    "instance_norm_torch": lambda x: torch.instance_norm(x, WEIGHT, None, MEAN, VARIANCE, False, 0.1, 0.2, False),
    "layer_norm": lambda x: F.layer_norm(x, (4, 2), WEIGHT[0].expand(4, 2), eps=0.2),
    "layer_norm_torch": lambda x: torch.layer_norm(x, [4, 2], None, None, 0.2, False),
    "group_norm": lambda x: F.group_norm(x, 3, WEIGHT, BIAS),
    "rms_norm": lambda x: F.rms_norm(x, (4, 2)),
    "hardsigmoid": lambda x: F.hardsigmoid(x),
}


@pytest.mark.parametrize("name", CALLS)
def test_arithmetic_gives_the_same_values(name: str) -> None:
    expected = CALLS[name]()
    with Arithmetic(3):
        found = CALLS[name]()
    assert not torch.equal(expected, X)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Implicit dimension choice:UserWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_derivative_of_a_tangent_is_the_difference_of_gradients(name: str) -> None:
    function, direction, step = FUNCTIONS[name], (3 * X).cos(), 1e-6

    def value(x: Tensor) -> Tensor:
        y = function(x)
        return (y.square() * torch.arange(y.numel(), dtype=torch.float64).cos().view_as(y)).sum()

    def gradient(t: float) -> Tensor:
        x = (X + t * direction).requires_grad_()
        return torch.autograd.grad(value(x), x)[0]

    x = X.clone().requires_grad_()
    with dual_level(), Arithmetic(2, tangents=True):
        pair = forward_ad.unpack_dual(value(forward_ad.make_dual(x, direction)))
    assert pair.tangent is not None
    torch.testing.assert_close(pair.primal, value(X), rtol=1e-12, atol=1e-12)
    (found,) = torch.autograd.grad(pair.tangent, x)
    assert found.abs().max() > 1e-4
    expected = (gradient(step) - gradient(-step)) / (2 * step)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7 * expected.abs().max().item())


def test_functions_with_tangents_whose_derivative_is_wrong_are_refused() -> None:
    square = X[0, :, :2]
    for function in (torch.det, torch.linalg.slogdet, Tensor.logdet, lambda x: torch.linalg.solve(x, x)):
        function(square)
        with Arithmetic(2):
            function(square)
        with Arithmetic(2, tangents=True), pytest.raises(RuntimeError, match="its tangent cannot be differentiated"):
            function(square)


def test_every_function_of_both_tables_is_replaced_where_tangents_are_differentiated() -> None:
    x = X.clone().requires_grad_()
    with Arithmetic(1, tangents=True):
        assert type(F.softmax(x, 1).grad_fn).__name__ == "DivBackward0"
        assert type(F.layer_norm(x, (2,)).grad_fn).__name__ == "MulBackward0"
    with Arithmetic(2):
        assert type(F.softmax(x, 1).grad_fn).__name__ == "SoftmaxBackward0"


def test_what_can_be_differentiated_often_enough_is_left_alone() -> None:
    x = X.clone().requires_grad_()
    with Arithmetic(1):
        assert type(F.hardsigmoid(x).grad_fn).__name__ == "HardsigmoidBackward0"
    with Arithmetic(2):
        assert type(F.hardsigmoid(x).grad_fn).__name__ == "DivBackward0"
        assert type(F.layer_norm(x, (2,)).grad_fn).__name__ == "NativeLayerNormBackward0"
    with Arithmetic(3):
        assert type(F.layer_norm(x, (2,)).grad_fn).__name__ == "MulBackward0"

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oba.curvature import Arithmetic

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
    "hardsigmoid": lambda: nn.Hardsigmoid()(X),
}


@pytest.mark.parametrize("name", CALLS)
def test_arithmetic_gives_the_same_values(name: str) -> None:
    expected = CALLS[name]()
    with Arithmetic(3):
        found = CALLS[name]()
    assert not torch.equal(expected, X)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_what_can_be_differentiated_often_enough_is_left_alone() -> None:
    x = X.clone().requires_grad_()
    with Arithmetic(1):
        assert type(F.hardsigmoid(x).grad_fn).__name__ == "HardsigmoidBackward0"
    with Arithmetic(2):
        assert type(F.hardsigmoid(x).grad_fn).__name__ == "DivBackward0"
        assert type(F.layer_norm(x, (2,)).grad_fn).__name__ == "NativeLayerNormBackward0"
    with Arithmetic(3):
        assert type(F.layer_norm(x, (2,)).grad_fn).__name__ == "MulBackward0"

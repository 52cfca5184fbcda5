from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from oba.curvature.linear_maps import ConvolutionMap, LinearMap, linear_map_of


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


CALLS: list[tuple[Any, Tensor, Tensor, tuple[Any, ...], dict[str, Any]]] = [
    (F.linear, randn(5, 3), randn(4, 3), (), {}),
    (F.linear, randn(2, 5, 3), randn(4, 3), (), {}),
    (F.linear, randn(2, 2, 5, 3), randn(4, 3), (), {}),
    (torch.conv1d, randn(2, 3, 7), randn(4, 3, 2), (2,), {}),
    (torch.conv2d, randn(2, 4, 6, 5), randn(6, 2, 3, 2), ((2, 1), (1, 0), 1, 2), {}),
    (torch.conv2d, randn(2, 4, 6, 5), randn(4, 1, 3, 3), (), {"groups": 4, "padding": 1, "dilation": [2, 1]}),
    (torch.conv2d, randn(2, 3, 6, 6), randn(2, 3, 3, 3), (), {"stride": (2,), "padding": 1}),
    (torch.conv3d, randn(2, 3, 4, 4, 4), randn(2, 3, 3, 2, 1), (1, 1), {}),
]


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_both_transposes_are_those_of_autograd(number: int) -> None:
    function, x, weight, settings, options = CALLS[number]
    bias = randn(len(weight))
    linear_map = linear_map_of(function, x, *settings, **options)
    assert linear_map is not None
    x.requires_grad_(), weight.requires_grad_()
    z = function(x, weight, bias, *settings, **options)
    gradient = randn(*z.shape)
    to_x, to_weight = torch.autograd.grad(z, [x, weight], gradient)
    with torch.no_grad():
        torch.testing.assert_close(linear_map.forward(x, weight, bias), z)
        for moves, of_weight in ((True, True), (True, False), (False, True), (False, False)):
            flow, product = linear_map.backward(gradient, x, weight, moves, of_weight)
            assert (flow is not None) is moves
            assert (product is not None) is of_weight
            if flow is not None:
                torch.testing.assert_close(flow, to_x, rtol=1e-12, atol=1e-12)
            if product is not None:
                torch.testing.assert_close(product, to_weight, rtol=1e-12, atol=1e-12)
    kept = linear_map.channels % z.dim()
    assert z.shape[kept] == len(weight)


def test_calls_are_told_apart() -> None:
    image = randn(2, 3, 6, 6)
    assert type(linear_map_of(F.linear, image)) is LinearMap
    assert isinstance(linear_map_of(torch.conv2d, image, 1, 2), ConvolutionMap)
    assert linear_map_of(F.linear, image[0, 0, 0]) is None
    assert linear_map_of(torch.conv2d, image[0]) is None
    assert linear_map_of(torch.conv2d, image, 1, "same") is None
    assert linear_map_of(torch.conv2d, image, padding="valid") is None
    assert linear_map_of(torch.conv_transpose2d, image) is None

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from oba.curvature.products import COMPOSITES, IN_PLACE, LAYERS, MULTILINEAR


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


Q, K, V = randn(2, 4, 3, 5), randn(2, 4, 6, 5, seed=1), randn(2, 4, 6, 7, seed=2)
FEW = randn(2, 2, 6, 5, seed=3)
HOLES = randn(3, 6, seed=4) > -0.5
HOLES[:, 0] = True


@pytest.mark.parametrize(
    ("keys", "options"),
    [
        ((K, V), {}),
        ((K, V), {"scale": 0.3}),
        ((K, V), {"is_causal": True}),
        ((K, V), {"attn_mask": HOLES}),
        ((K, V), {"attn_mask": randn(3, 6, seed=5)}),
        ((FEW, FEW), {"enable_gqa": True}),
    ],
)
def test_attention_is_what_its_kernel_computes(keys: tuple[Tensor, Tensor], options: dict[str, Any]) -> None:
    written_out = COMPOSITES[F.scaled_dot_product_attention]
    torch.testing.assert_close(written_out(Q, *keys, **options), F.scaled_dot_product_attention(Q, *keys, **options))


def test_attention_drops_out_when_asked() -> None:
    weights = COMPOSITES[F.scaled_dot_product_attention](Q, K, torch.eye(6, dtype=torch.float64), dropout_p=0.5)
    assert 0.2 < (weights == 0).double().mean() < 0.8


A, B = randn(3, 4), randn(4, 5)
ADDED = {
    "addmm": (randn(3, 5), A, B),
    "addmv": (randn(3), A, B[:, 0]),
    "addr": (randn(3, 4), A[:, 0], B[:, 0]),
    "addbmm": (randn(3, 5), randn(2, 3, 4), randn(2, 4, 5)),
    "baddbmm": (randn(2, 3, 5), randn(2, 3, 4), randn(2, 4, 5)),
    "addcmul": (A, A + 1, A[0]),
}


@pytest.mark.parametrize("name", ADDED)
@pytest.mark.parametrize("options", [{}, {"beta": 0.5, "alpha": -2}, {"beta": 0}])
def test_sums_with_products_are_what_they_were(name: str, options: dict[str, float]) -> None:
    if name == "addcmul":
        options = {"value": options["alpha"]} if "alpha" in options else {}
    function, method = getattr(torch, name), getattr(Tensor, name)
    expected = function(*ADDED[name], **options)
    torch.testing.assert_close(COMPOSITES[function](*ADDED[name], **options), expected)
    torch.testing.assert_close(COMPOSITES[method](*ADDED[name], **options), expected)


def test_bilinear_is_what_it_was() -> None:
    weight, bias = randn(2, 4, 4), randn(2)
    torch.testing.assert_close(COMPOSITES[F.bilinear](A, A + 1, weight, bias), F.bilinear(A, A + 1, weight, bias))
    torch.testing.assert_close(COMPOSITES[F.bilinear](A, A + 1, weight), F.bilinear(A, A + 1, weight))


def test_multi_head_attention_goes_on_to_its_operations() -> None:
    class Names(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.seen.append(func.__name__)
            if func is F.multi_head_attention_forward:
                with self:
                    return COMPOSITES[func](*args, **(kwargs or {}))
            return func(*args, **(kwargs or {}))

    module, x = nn.MultiheadAttention(4, 2).double(), randn(3, 2, 4)
    with Names() as names:
        found = module(x, x, x, need_weights=False)[0]
    assert {"linear", "scaled_dot_product_attention"} < set(names.seen)
    torch.testing.assert_close(found, module(x, x, x, need_weights=False)[0])


def test_tables_hold_functions_methods_and_operators() -> None:
    assert {torch.mul, Tensor.mul, Tensor.__mul__, torch.matmul, Tensor.__matmul__, torch.einsum} <= MULTILINEAR
    assert {F.linear, F.conv1d, F.conv2d, F.conv_transpose2d} <= LAYERS
    assert IN_PLACE[Tensor.addcmul_] is torch.addcmul
    assert IN_PLACE[Tensor.__imul__] is IN_PLACE[Tensor.mul_] is torch.mul


@pytest.mark.parametrize("method", list(IN_PLACE), ids=lambda method: method.__name__)
def test_methods_in_place_write_what_their_function_returns(method: Any) -> None:
    arguments = ADDED.get(method.__name__.removesuffix("_"), (A, A[0] + 1))
    expected = IN_PLACE[method](*arguments)
    torch.testing.assert_close(method(arguments[0].clone(), *arguments[1:]), expected)

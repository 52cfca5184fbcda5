"""Rows of examples: windows and sequences are told apart by what a change of one example changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oba.curvature.example_rows import MixedExamplesError, knowing_rows, rows_each
from oba.curvature.squared_gradients import squared_gradients
from oba.importance import score_structures
from oba.structures import Slice, StructureGroup

WIDTH, CLASSES = 4, 3


class Windows(nn.Module):
    """Four tokens in two windows; ``order`` says what comes first in the batch of the layers between."""

    def __init__(self, order: str, *, normed: bool = False) -> None:
        super().__init__()
        self.order = order
        self.stem, self.inner, self.head = nn.Linear(2, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
        self.norm = nn.BatchNorm1d(WIDTH) if normed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x).mT).mT.unflatten(1, (2, 2))  # examples, windows, tokens, channels
        match self.order:
            case "example":
                y = self.inner(torch.tanh(x).flatten(0, 1)).unflatten(0, (-1, 2))
            case "window":
                y = self.inner(torch.tanh(x).transpose(0, 1).flatten(0, 1)).unflatten(0, (2, -1)).transpose(0, 1)
            case _:
                y = self.inner(torch.tanh(x).flatten(1, 2).transpose(0, 1)).transpose(0, 1).unflatten(1, (2, 2))
        return self.head(torch.tanh(y).mean((1, 2)))


ROWS = tuple((i,) for i in range(WIDTH))
GROUPS = [
    StructureGroup(layer, (Slice(layer, "out", ROWS), Slice(to, "in", ROWS)))
    for layer, to in (("stem", "inner"), ("inner", "head"))
]


def made(order: str, **options: Any) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    return Windows(order, **options).double(), torch.randn(2, 4, 2).double(), torch.tensor([0, 2])


@pytest.mark.parametrize("normed", [False, True])
def test_windows_of_an_example_that_lie_side_by_side_are_its_rows(normed):
    model, x, y = made("example", normed=normed)
    found = squared_gradients(model.eval(), x, lambda outputs: F.cross_entropy(outputs, y, reduction="sum"))
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters() if "norm" not in name}
    for n in range(2):
        loss = F.cross_entropy(model(x[n : n + 1]), y[n : n + 1])
        for name, g in zip(expected, torch.autograd.grad(loss, [*map(model.get_parameter, expected)]), strict=True):
            expected[name] += g.square()
    assert found.keys() == expected.keys()
    for name, squares in found.items():
        torch.testing.assert_close(squares, expected[name], rtol=1e-9, atol=1e-20)


@pytest.mark.parametrize("criterion", ["fisher", "oba-diag"])
def test_masks_of_examples_reach_into_windows(criterion):
    options: dict[str, Any] = {"normalizer": "none"} if criterion == "fisher" else {"hessian": "gauss-newton"}
    model, x, y = made("example")
    whole = score_structures(model, GROUPS, [(x, y)], criterion, **options)
    alone = [score_structures(model, GROUPS, [(x[n : n + 1], y[n : n + 1])], criterion, **options) for n in range(2)]
    for group in GROUPS:
        mean = (alone[0].alone[group.name] + alone[1].alone[group.name]) / 2
        torch.testing.assert_close(whole.alone[group.name], mean)


@pytest.mark.parametrize(("order", "options"), [("window", {}), ("token", {}), ("example", {"normed": True})])
def test_rows_that_may_belong_to_several_examples_are_refused(order, options):
    model, x, y = made(order, **options)
    model.train(bool(options))
    with pytest.raises(MixedExamplesError, match="layer 'inner' takes 4 rows for 2 examples: it cannot be told"):
        squared_gradients(model, x, lambda outputs: F.cross_entropy(outputs, y, reduction="sum"))


def test_as_many_rows_as_examples_need_no_second_look():
    model, x, _ = made("example")
    runs = []
    model.register_forward_pre_hook(lambda *_: runs.append(1))
    assert knowing_rows(model, x, ["stem"], lambda known: rows_each("stem", 2, 2, known)) == 1
    assert not runs
    with pytest.raises(MixedExamplesError, match="layer 'inner' takes 5 rows for 2 examples"):
        knowing_rows(model, x, ["inner"], lambda known: rows_each("inner", 5, 2, known))
    assert len(runs) == 2

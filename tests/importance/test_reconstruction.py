"""Scores against least squares by brute force on the layers' own outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from masked_nets import single
from torch import Tensor, nn

from oba.curvature.grams import input_moments
from oba.errors import ConfigError, ScoreError
from oba.importance import StructureScores, score_structures
from oba.structures import IN, OUT, Slice, StructureGroup


class Stream(nn.Module):
    """Two layers add up in a stream that two others and the classifier take."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.back = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 3, 2, 1), nn.Conv2d(3, 4, 1)
        self.pool, self.head = nn.AvgPool2d(2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.tanh(self.pool(x) + self.back(torch.relu(self.inner(x))))
        return self.head(x.mean((2, 3)))


class Concat(nn.Module):
    """Two layers whose channels one takes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.join = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 4, 3), nn.Conv2d(7, 3, 1)
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.join(torch.relu(torch.cat([self.a(x), self.b(x)], 1)))).mean((2, 3)))


def group(name: str, *slices: tuple[str, str, Sequence[Sequence[int]]]) -> StructureGroup:
    return StructureGroup(name, tuple(Slice(layer, axis, tuple(map(tuple, rows))) for layer, axis, rows in slices))


def chain() -> nn.Module:
    layers = [nn.Conv2d(2, 5, 3), nn.Tanh(), nn.Conv2d(5, 4, (3, 2), padding=1, bias=False), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(80, 3))


FLAT = [list(range(20 * i, 20 * i + 20)) for i in range(4)]
NETS: dict[str, tuple[Any, list[StructureGroup]]] = {
    "chain": (
        chain,
        [
            group("0", ("0", OUT, single(5)), ("2", IN, single(5))),
            group("2", ("2", OUT, single(4)), ("5", IN, FLAT)),
        ],
    ),
    "stream": (
        Stream,
        [
            group(
                "stem",
                ("stem", OUT, single(4)),
                ("back", OUT, single(4)),
                ("inner", IN, single(4)),
                ("head", IN, single(4)),
            ),
            group("inner", ("inner", OUT, single(3)), ("back", IN, single(3))),
        ],
    ),
    "concat": (
        Concat,
        [
            group("a", ("a", OUT, single(3)), ("join", IN, single(3))),
            group("join", ("join", OUT, single(3)), ("head", IN, single(3))),
            group("b", ("b", OUT, single(4)), ("join", IN, [[3], [4], [5], [6]])),
        ],
    ),
    "pairs": (chain, [group("0", ("0", OUT, [[0, 3], [4, 1]]), ("2", IN, [[0, 3], [4, 1]]))]),
}


def made(name: str) -> nn.Module:
    torch.manual_seed(sum(map(ord, name)))
    return NETS[name][0]().double()


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(5)
    for n in (90, 70):
        yield torch.randn(n, 2, 6, 6, generator=draw, dtype=torch.float64), torch.zeros(n, dtype=torch.long)


def scored(name: str, model: nn.Module | None = None, **options: Any) -> StructureScores:
    return score_structures(model or made(name), NETS[name][1], batches(), "reconstruction", **options)


def rows_and_outputs(model: nn.Module, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return a layer's unfolded inputs, its outputs without bias, and which input channel each column is of."""
    layer = model.get_submodule(name)
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _l, args: seen.append(args[0].clone()))
    with torch.no_grad():
        for x, _ in batches():
            model(x)
    hook.remove()
    x = torch.cat(seen)
    if isinstance(layer, nn.Linear):
        return x, x @ layer.weight.detach().T, torch.arange(x.shape[1])
    assert isinstance(layer, nn.Conv2d)
    unfolded = nn.functional.unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride)  # pyright: ignore
    rows = unfolded.movedim(1, -1).flatten(0, 1)
    kernel = layer.kernel_size[0] * layer.kernel_size[1]
    return rows, rows @ layer.weight.detach().flatten(1).T, torch.arange(rows.shape[1]) // kernel


def error(model: nn.Module, of: StructureGroup, gone: set[int], damping: float) -> float:
    """Return the sum over consumers of the relative error that least squares leaves; damping as rows of its own."""
    total = 0.0
    for entry in of.on_axis(IN):
        rows, outputs, channel = rows_and_outputs(model, entry.layer)
        strength = (damping * rows.square().mean() * len(rows)).sqrt()
        ridge = strength * torch.eye(rows.shape[1], dtype=torch.float64)
        weight = model.get_submodule(entry.layer).weight
        assert isinstance(weight, Tensor)
        rows, outputs = torch.cat([rows, ridge]), torch.cat([outputs, ridge @ weight.detach().flatten(1).T])
        lost = torch.tensor([i for s in gone for i in entry.indices[s]], dtype=torch.long)
        kept = rows[:, ~torch.isin(channel, lost)]
        fitted = kept @ torch.linalg.lstsq(kept, outputs).solution if kept.shape[1] else torch.zeros_like(outputs)
        total += float((outputs - fitted).square().sum() / outputs.square().sum())
    return total


@pytest.mark.parametrize("name", NETS)
def test_curves_are_the_relative_errors_of_least_squares(name: str) -> None:
    """Without damping: of several consumers the sum; of a structure with many columns, and of a shared layer."""
    model, found = made(name), scored(name, damping=0)
    assert found.curves is not None
    assert list(found.alone) == [g.name for g in NETS[name][1]]
    for one in NETS[name][1]:
        order = found.alone[one.name].argsort().tolist()
        expected = [error(model, one, set(order[:k]), 0) for k in range(len(one) + 1)]
        torch.testing.assert_close(found.curves[one.name].tolist(), expected, rtol=1e-5, atol=1e-6)
        assert found.curves[one.name][0] == 0
    consumers = [len(one.on_axis(IN)) for one in NETS[name][1]]
    whole = [found.curves[one.name][-1].item() for one in NETS[name][1]]
    if name in {"chain", "stream"}:  # elsewhere a layer still has other channels
        assert whole == pytest.approx(consumers, rel=1e-6)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("damping", [0.01, 0.3])
def test_what_goes_next_is_what_adds_the_least_error(name: str, damping: float) -> None:
    model, found = made(name), scored(name, damping=damping)
    for one in NETS[name][1]:
        gone: set[int] = set()
        for structure in found.alone[one.name].argsort().tolist():
            choices = {s: error(model, one, {*gone, s}, damping) for s in range(len(one)) if s not in gone}
            assert choices[structure] <= min(choices.values()) + 1e-9
            assert found.alone[one.name][structure].item() == pytest.approx(choices[structure], rel=1e-6, abs=1e-9)
            gone.add(structure)


def test_scores_are_the_curve_in_the_order_of_removal() -> None:
    found = scored("stream")
    assert found.curves is not None
    assert found.interactions is None
    assert not found.in_nats
    for name, alone in found.alone.items():
        assert torch.equal(alone.sort().values, found.curves[name][1:])
        assert alone.dtype == found.curves[name].dtype == torch.float64


def test_what_costs_nothing_has_an_order_too() -> None:
    """Channels without weights behind them, or without any signal, go first, one after another."""
    model = made("chain")
    with torch.no_grad():
        model.get_submodule("2").weight[:, [1, 3]] = 0  # pyright: ignore[reportIndexIssue]
        model.get_submodule("0").weight[4] = 0  # pyright: ignore[reportIndexIssue]
        model.get_submodule("0").bias[4] = 0  # pyright: ignore[reportIndexIssue]
    alone = scored("chain", model).alone["0"]
    assert len(set(alone.tolist())) == 5
    assert sorted(alone.argsort()[:3].tolist()) == [1, 3, 4]


def test_a_layer_without_outputs_has_no_error() -> None:
    model = made("chain")
    with torch.no_grad():
        model.get_submodule("2").weight.zero_()  # pyright: ignore[reportCallIssue]
    found = scored("chain", model)
    assert found.alone["0"].max() < 1e-300
    assert len(set(found.alone["0"].tolist())) == 5


def test_the_scale_of_a_consumer_does_not_matter() -> None:
    model, expected = made("stream"), scored("stream").alone
    with torch.no_grad():
        model.get_submodule("head").weight *= 1000  # pyright: ignore[reportOperatorIssue]
    for name, alone in scored("stream", model).alone.items():
        torch.testing.assert_close(alone, expected[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["chain", "concat"])
def test_images_that_come_once_serve_several_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = scored(name)
    tight = partial(input_moments, budget_bytes=1)
    monkeypatch.setattr("oba.importance.criteria.reconstruction.input_moments", tight)
    for group_name, alone in scored(name).alone.items():
        torch.testing.assert_close(alone, expected.alone[group_name], rtol=1e-12, atol=0)


def test_a_group_that_nothing_takes_is_refused() -> None:
    outputs = group("5", ("5", OUT, single(3)))
    with pytest.raises(ScoreError, match=r"group '5': no layer takes its structures as input"):
        score_structures(made("chain"), [outputs], batches(), "reconstruction")


class Doubling(nn.Conv2d):
    """A convolution that is none of its own weight."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def test_a_consumer_that_cannot_be_refitted_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), Doubling(3, 2, 1)).double()
    one = group("0", ("0", OUT, single(3)), ("1", IN, single(3)))
    with pytest.raises(ScoreError, match=r"criterion 'reconstruction': layer '1' \(Doubling\) does not compute W X"):
        score_structures(model, [one], batches(), "reconstruction")


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"criterion 'reconstruction' has no option 'norm'; allowed: damping"):
        scored("chain", norm="train")
    with pytest.raises(ConfigError, match=r"damping: got -0.1; allowed: greater than or equal to 0"):
        scored("chain", damping=-0.1)

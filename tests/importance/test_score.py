from __future__ import annotations

from itertools import product

import pytest
import torch
from architectures import Residual
from scoring import own, raw_scores
from torch import Tensor, nn
from zoo import IMAGE, ZOO, Member

from oba.errors import ConfigError, ScoreError
from oba.importance import parameter_scores, score_structures
from oba.structures import Slice, StructureGroup


def single(count: int, first: int = 0) -> tuple[tuple[int, ...], ...]:
    return tuple((first + i,) for i in range(count))


class Varied(nn.Module):
    """Grouped, depthwise, pointwise convolutions and a Linear behind a flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4, padding=1)
        self.grouped = nn.Conv2d(4, 6, 1, groups=2, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.depthwise(torch.tanh(self.stem(x))))
        return self.head(nn.functional.avg_pool2d(torch.tanh(self.norm(self.grouped(x))), 2).flatten(1))


VARIED = Member("varied", Varied, (2, 6, 6))
GROUPS = [
    StructureGroup(
        "stem",
        (
            Slice("stem", "out", single(4)),
            Slice("depthwise", "out", single(4)),
            Slice("depthwise", "in", single(4)),
            Slice("grouped", "in", single(4)),
        ),
    ),
    StructureGroup(
        "grouped",
        (
            Slice("grouped", "out", ((0, 3), (1, 4), (2, 5))),
            Slice("norm", "feature", ((0, 3), (1, 4), (2, 5))),
            Slice(
                "head",
                "in",
                tuple(tuple(range(4 * i, 4 * i + 4)) + tuple(range(12 + 4 * i, 16 + 4 * i)) for i in range(3)),
            ),
        ),
    ),
]


def naive(
    model: nn.Module, group: StructureGroup, scores: dict[str, Tensor], skip: tuple[tuple[str, str], ...]
) -> Tensor:
    """Return the signed sums over slices, (slices, structures), element by element."""
    rows = []
    for entry in group.slices:
        if entry.axis == "feature" or (entry.layer, entry.axis) in skip:
            continue
        layer, weight = model.get_submodule(entry.layer), scores[f"{entry.layer}.weight"]
        bias = scores.get(f"{entry.layer}.bias")
        groups = getattr(layer, "groups", 1)
        row = []
        for indices in entry.indices:
            total = 0.0
            for index in indices:
                if entry.axis == "out":
                    total += weight[index].sum().item() + (0 if bias is None else bias[index].item())
                else:
                    per_in, per_out = weight.shape[1], weight.shape[0] // groups
                    for out in range(weight.shape[0]):
                        if out // per_out == index // per_in:
                            total += weight[out, index % per_in].sum().item()
            row.append(total)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


SIZES = (4, 2, 5)


def reduce(sums: list[Tensor], how: str) -> Tensor:
    stacked = torch.stack(sums)
    weights = torch.tensor(SIZES, dtype=torch.float64)[:, None, None] / sum(SIZES)
    if how == "abs-of-mean":
        return (weights * stacked).sum(0).abs()
    return (weights * stacked.abs()).sum(0) if how == "mean-of-abs" else (weights * stacked.square()).sum(0).sqrt()


REDUCED = [
    *product(["oba", "oba-exact", "taylor"], ["eval", "train"], ["abs-of-mean", "mean-of-abs", "rms"]),
    ("magnitude", "eval", "abs-of-mean"),
]


@pytest.mark.parametrize(("criterion", "norm", "over_batches"), REDUCED)
@pytest.mark.parametrize("over_layers", ["mean", "sum"])
def test_scores_are_those_of_a_loop(criterion: str, norm: str, over_batches: str, over_layers: str) -> None:
    model = VARIED.make()
    batches = [VARIED.batch(size, seed) for seed, size in enumerate(SIZES)]
    options = own(criterion, norm=norm, over_batches=over_batches)
    found = raw_scores(model, GROUPS, iter(batches), criterion, over_layers=over_layers, **options)
    each = [parameter_scores(model, [batch], criterion, **own(criterion, norm=norm)) for batch in batches]
    assert list(found) == ["stem", "grouped"]
    for group in GROUPS:
        left_out = (("grouped", "out"),) if norm == "train" else ()
        rows = reduce([naive(model, group, scores, left_out) for scores in each], over_batches)
        expected = rows.mean(0) if over_layers == "mean" else rows.sum(0)
        assert found[group.name].dtype == torch.float64
        assert found[group.name].device.type == "cpu"
        assert expected.max() > 1e-6
        torch.testing.assert_close(found[group.name], expected, rtol=1e-9, atol=1e-13)


def test_groups_are_made_comparable_unless_scores_are_asked_for_as_they_are() -> None:
    model, batches = VARIED.make(), [VARIED.batch()]
    raw = raw_scores(model, GROUPS, batches, "taylor")
    found = score_structures(model, GROUPS, batches, "taylor")
    assert found.interactions is None
    assert found.standard_error is None
    assert found.curves is None
    assert not found.in_nats
    for name, scores in found.alone.items():
        torch.testing.assert_close(scores, raw[name] / raw[name].max(), rtol=1e-15, atol=0)


def test_the_reductions_differ() -> None:
    model, batches = VARIED.make(), [VARIED.batch(3, seed) for seed in range(4)]
    found = [
        raw_scores(model, GROUPS, batches, "oba", over_batches=how)["stem"]
        for how in ("abs-of-mean", "mean-of-abs", "rms")
    ]
    assert (found[0] <= found[1]).all()
    assert (found[1] <= found[2]).all()
    assert found[0].ne(found[1]).any()
    assert found[1].ne(found[2]).any()


RESIDUAL = Member("residual", Residual, IMAGE)
INNER = StructureGroup(
    "conv1", (Slice("conv1", "out", single(5)), Slice("norm1", "feature", single(5)), Slice("conv2", "in", single(5)))
)


@pytest.mark.parametrize("criterion", ["oba", "oba-exact", "taylor"])
def test_filters_in_front_of_a_norm_with_batch_statistics_are_left_out(criterion: str) -> None:
    model, batch = RESIDUAL.make(), RESIDUAL.batch()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-14
    consumer = StructureGroup("conv1", (INNER.slices[2],))
    found = raw_scores(model, [INNER], [batch], criterion, norm="train", over_layers="sum")
    expected = raw_scores(model, [consumer], [batch], criterion, norm="train", over_layers="sum")
    assert torch.equal(found["conv1"], expected["conv1"])
    sums = parameter_scores(model, [batch], criterion, norm="train")["conv1.weight"].flatten(1).sum(1)
    assert sums.abs().max() < 1e-10 < found["conv1"].max()
    found = raw_scores(model, [INNER], [batch], criterion, norm="eval", over_layers="sum")
    expected = raw_scores(model, [consumer], [batch], criterion, norm="eval", over_layers="sum")
    assert not torch.allclose(found["conv1"], expected["conv1"])


def test_a_depthwise_filter_counts_as_whole_on_both_axes() -> None:
    member = next(m for m in ZOO if m.name == "depthwise")
    model, batch = member.make(), member.batch()
    slices = tuple(Slice(n, a, single(4)) for n, a in (("0", "out"), ("3", "out"), ("3", "in"), ("6", "in")))
    found = raw_scores(model, [StructureGroup("0", slices)], [batch], "oba", norm="train")
    expected = raw_scores(model, [StructureGroup("0", slices[-1:])], [batch], "oba", norm="train")
    assert torch.equal(found["0"], expected["0"])


def test_a_group_of_which_nothing_is_left_is_refused() -> None:
    group = StructureGroup("conv1", INNER.slices[:2])
    with pytest.raises(ScoreError, match="group 'conv1': none of its layers has a score"):
        raw_scores(RESIDUAL.make(), [group], [RESIDUAL.batch()], "oba", norm="train")


def test_frozen_layers_are_left_out_of_taylor() -> None:
    model, batch = RESIDUAL.make(), RESIDUAL.batch()
    expected = raw_scores(model, [StructureGroup("conv1", INNER.slices[:1])], [batch], "taylor")
    model.conv2.requires_grad_(False)
    found = raw_scores(model, [INNER], [batch], "taylor")
    assert torch.equal(found["conv1"], expected["conv1"])


def test_scores_repeat_bit_for_bit_and_leave_the_model_alone() -> None:
    model = RESIDUAL.make()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    batches = [RESIDUAL.batch(3, seed) for seed in range(3)]
    for norm in ("eval", "train"):
        first, again = (raw_scores(model, [INNER], batches, "oba", norm=norm)["conv1"] for _ in range(2))
        assert torch.equal(first, again)
    assert model.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    with pytest.raises(ScoreError, match="out of range"):
        raw_scores(model, [INNER], [(batches[0][0], batches[0][1] + 5)], "oba", norm="train")
    assert model.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_unknown_reductions_and_empty_data_are_refused() -> None:
    model, batches = RESIDUAL.make(), [RESIDUAL.batch()]
    allowed = "'abs-of-mean', 'mean-of-abs' or 'rms'"
    with pytest.raises(ConfigError, match=f"^criterion 'oba': over_batches: got 'max'; allowed: {allowed}$"):
        raw_scores(model, [INNER], batches, "oba", over_batches="max")
    with pytest.raises(ConfigError, match=r"^criterion 'oba': over_layers: got 'max'; allowed: 'mean' or 'sum'$"):
        raw_scores(model, [INNER], batches, "oba", over_layers="max")
    with pytest.raises(ScoreError, match="the iterable of batches is empty"):
        raw_scores(model, [INNER], [], "oba")


def test_scores_that_are_not_finite_are_refused() -> None:
    model = RESIDUAL.make()
    with torch.no_grad():
        model.conv1.weight.fill_(1e200)
    with pytest.raises(ScoreError, match="criterion 'magnitude': the scores of group 'conv1' are not finite"):
        raw_scores(model, [INNER], [], "magnitude", magnitude="l2")

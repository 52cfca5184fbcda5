from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from masked_nets import BY_NAME, MASKED_CASES, MASKED_IDS, MaskedNet, group, squared
from torch import Tensor, nn

from oba.errors import ConfigError, ScoreError
from oba.importance import score_structures
from oba.importance.masks import masked, removal_masks
from oba.importance.scores import StructureScores
from oba.importance.state import left_as_found
from oba.structures import Slice, StructureGroup

SIZES = (4, 2, 7)


def scored(net: MaskedNet, criterion: str = "oba-joint", **settings: Any) -> StructureScores:
    batches = [net.member.batch(size, seed) for seed, size in enumerate(SIZES)]
    return score_structures(net.member.make(), net.groups, batches, criterion, **settings)


def matrix_of(found: StructureScores) -> Tensor:
    assert found.interactions is not None
    return found.interactions


@pytest.mark.parametrize(("net", "norm"), MASKED_CASES, ids=MASKED_IDS)
def test_interactions_are_the_weighted_mean_of_second_derivatives(net: MaskedNet, norm: str) -> None:
    model, expected = net.member.make(), torch.zeros(net.structures, net.structures, dtype=torch.float64)
    ones = torch.ones(net.structures, dtype=torch.float64)
    with left_as_found(model, norm):
        for seed, size in enumerate(SIZES):
            inputs, targets = net.member.batch(size, seed)
            rows = torch.func.jacrev(
                torch.func.jacrev(lambda m, x=inputs, t=targets: F.cross_entropy(net.by_hand(model, m, x), t))
            )(ones)
            expected += size / sum(SIZES) * rows.detach()
    found = scored(net, norm=norm, hessian="exact")
    assert torch.equal(matrix_of(found), matrix_of(found).T)
    assert matrix_of(found).dtype == torch.float64
    torch.testing.assert_close(matrix_of(found), expected, rtol=1e-9, atol=1e-12)
    assert found.in_nats
    assert found.standard_error is None


@pytest.mark.parametrize("hessian", ["exact", "gauss-newton", "auto"])
@pytest.mark.parametrize("samples", [2, 16])
def test_alone_a_structure_scores_as_by_the_diagonal(hessian: str, samples: int) -> None:
    net = BY_NAME["residual"]
    joint = scored(net, hessian=hessian, samples=samples)
    diagonal = scored(net, "oba-diag", hessian=hessian, samples=samples)
    assert list(joint.alone) == list(diagonal.alone) == ["stem", "conv1"]
    for name, score in diagonal.alone.items():
        torch.testing.assert_close(joint.alone[name], score, rtol=1e-10, atol=1e-15)
    assert diagonal.interactions is None


@pytest.mark.parametrize(
    ("settings", "way"),
    [
        ({"samples": 9}, "exact"),
        ({"samples": 8}, "gauss-newton"),
        ({"samples": 2, "norm": "train"}, "exact"),
        ({"samples": 2, "loss": squared}, "exact"),
    ],
)
def test_the_automatic_choice_is_never_probes(
    settings: dict[str, Any], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oba.importance.criteria.oba_diag.ObaDiag.FEW", 2)
    net = BY_NAME["residual"]
    assert torch.equal(matrix_of(scored(net, **settings)), matrix_of(scored(net, hessian=way, **settings)))
    if len(settings) == 1:
        other = "exact" if way == "gauss-newton" else "gauss-newton"
        assert not torch.allclose(
            matrix_of(scored(net, **settings)), matrix_of(scored(net, hessian=other, **settings)), rtol=1e-6
        )


def test_gauss_newton_has_no_negative_eigenvalue() -> None:
    values = torch.linalg.eigvalsh(matrix_of(scored(BY_NAME["residual"], hessian="gauss-newton")))
    assert values.min() > -1e-14
    assert values.max() > 1e-3


def test_the_change_of_a_loss_that_is_quadratic_in_the_masks_is_predicted_exactly() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 3)).double()
    slices = [tuple((i,) for i in range(first, last)) for first, last in ((0, 3), (3, 7))]
    groups = [StructureGroup(str(k), (Slice("0", "out", s), Slice("2", "in", s))) for k, s in enumerate(slices)]
    inputs, targets = torch.randn(8, 4, dtype=torch.float64), torch.randint(3, (8,))
    halves = [(inputs[:5], targets[:5]), (inputs[5:], targets[5:])]
    found = score_structures(model, groups, halves, "oba-joint", loss=squared)
    with torch.no_grad():
        dense = squared(model(inputs), targets)
        for removed in ({"0": [1]}, {"1": [0, 3]}, {"0": [0, 2], "1": [1]}, {"1": [2, 0], "0": [0, 1, 2]}, {}):
            with masked(model, groups, removal_masks(groups, removed)):
                change = (squared(model(inputs), targets) - dense).item()
            assert found.change(removed) == pytest.approx(change, rel=1e-10, abs=1e-14)


def test_the_change_adds_up_scores_and_pairs() -> None:
    alone = {"a": torch.tensor([1.0, 2.0], dtype=torch.float64), "b": torch.tensor([10.0], dtype=torch.float64)}
    pairs = torch.tensor([[7.0, 0.5, 0.25], [0.5, 7.0, -4.0], [0.25, -4.0, 7.0]], dtype=torch.float64)
    quadratic = StructureScores(alone, pairs)
    assert quadratic.change({}) == 0
    assert quadratic.change({"a": [1]}) == 2
    assert quadratic.change({"b": [0], "a": [1]}) == 8
    assert quadratic.change({"a": (0, 1), "b": [0]}) == 9.75
    assert StructureScores(alone).change({"a": [0, 1], "b": [0]}) == 13


def test_probes_are_refused() -> None:
    with pytest.raises(ConfigError, match="hessian: got 'probes'; allowed: 'auto', 'exact' or 'gauss-newton'"):
        scored(BY_NAME["mlp"], hessian="probes")


def test_a_group_that_no_layer_takes_is_refused() -> None:
    net = BY_NAME["mlp"]
    loose = StructureGroup("2", (Slice("2", "out", ((0,), (1,), (2,), (3,))),))
    with pytest.raises(ScoreError, match="group '2': no layer takes its structures as input to be masked"):
        score_structures(net.member.make(), [group("0", 5, ("2", "in")), loose], [net.member.batch()], "oba-joint")


def test_gauss_newton_refuses_what_it_does_not_hold_for() -> None:
    net = BY_NAME["residual"]
    with pytest.raises(ScoreError, match="'gauss-newton' holds for cross-entropy alone"):
        scored(net, hessian="gauss-newton", loss=squared)
    with pytest.raises(ConfigError, match="depend on each other, but norm is 'train'; allowed: norm eval, or another"):
        scored(net, hessian="gauss-newton", norm="train")
    model = net.member.make()
    model.norm = nn.BatchNorm2d(4, track_running_stats=False)
    with pytest.raises(ScoreError, match="'norm' normalises by the batch; allowed: norm 'eval', or hessian exact or"):
        score_structures(model, net.groups, [net.member.batch()], "oba-joint", hessian="gauss-newton")

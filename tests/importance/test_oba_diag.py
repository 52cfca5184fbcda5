from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from masked_nets import BY_NAME, MaskedNet, group, squared
from scoring import raw_scores
from torch import Tensor, nn

from oba.errors import ConfigError, ScoreError
from oba.importance import score_structures
from oba.importance.criteria.oba_diag import ObaDiag
from oba.importance.masks import masked, removal_masks
from oba.importance.scores import StructureScores
from oba.importance.state import left_as_found
from oba.seeds import derive_seed
from oba.structures import Slice, StructureGroup

SIZES = (4, 2, 7)


def expected(net: MaskedNet, model: nn.Module, batch: tuple[Tensor, Tensor], norm: str, loss: Any) -> Tensor:
    """``-g + ½ diag H`` from the net written by hand."""
    inputs, targets = batch

    def value(masks: Tensor) -> Tensor:
        return loss(net.by_hand(model, masks, inputs), targets)

    ones = torch.ones(net.structures, dtype=torch.float64)
    with left_as_found(model, norm):
        gradient = torch.func.grad(value)(ones)
        return (torch.func.jacrev(torch.func.jacrev(value))(ones).diagonal() / 2 - gradient).detach()


def joined(by_group: Any) -> Tensor:
    return torch.cat(list(by_group.values()))


@pytest.mark.parametrize("norm", ["eval", "train"])
@pytest.mark.parametrize("loss", [F.cross_entropy, squared])
def test_scores_are_the_weighted_mean_over_batches_with_their_signs(norm: str, loss: Any) -> None:
    net = BY_NAME["residual"]
    model, batches = net.member.make(), [net.member.batch(size, seed) for seed, size in enumerate(SIZES)]
    scores = [size / sum(SIZES) * expected(net, model, b, norm, loss) for size, b in zip(SIZES, batches, strict=True)]
    found = raw_scores(model, net.groups, batches, "oba-diag", norm=norm, loss=loss, hessian="exact")
    assert list(found) == ["stem", "conv1"]
    assert all(score.dtype == torch.float64 for score in found.values())
    torch.testing.assert_close(joined(found), sum(scores, torch.zeros(9).double()), rtol=1e-9, atol=1e-13)
    assert joined(found).min() < 0 < joined(found).max()


def test_the_batches_of_a_loss_that_is_a_mean_do_not_matter() -> None:
    net = BY_NAME["mlp"]
    model, (inputs, targets) = net.member.make(), net.member.batch(9)
    cuts = [slice(0, 4), slice(4, 5), slice(5, 9)]
    for hessian in ("exact", "gauss-newton"):
        whole = raw_scores(model, net.groups, [(inputs, targets)], "oba-diag", hessian=hessian)
        parts = raw_scores(model, net.groups, [(inputs[c], targets[c]) for c in cuts], "oba-diag", hessian=hessian)
        torch.testing.assert_close(joined(parts), joined(whole), rtol=1e-10, atol=1e-14)


def test_scores_are_the_change_of_a_loss_that_is_quadratic_in_the_masks() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    groups = [group("0", 6, ("0", "out"), ("2", "in"))]
    inputs, targets = torch.randn(8, 4, dtype=torch.float64), torch.randint(3, (8,))
    found = raw_scores(model, groups, [(inputs, targets)], "oba-diag", loss=squared, hessian="exact")["0"]
    with torch.no_grad():
        dense = squared(model(inputs), targets)
        for i in range(6):
            with masked(model, groups, removal_masks(groups, {"0": [i]})):
                change = squared(model(inputs), targets) - dense
            assert found[i].item() == pytest.approx(change.item(), rel=1e-10, abs=1e-14)


def scored(net: MaskedNet, hessian: str, **settings: Any) -> StructureScores:
    batches = [net.member.batch(size, seed) for seed, size in enumerate(SIZES)]
    return score_structures(net.member.make(), net.groups, batches, "oba-diag", hessian=hessian, **settings)


@pytest.mark.parametrize(
    ("settings", "few", "way"),
    [
        ({"samples": 9}, 64, "exact"),
        ({"samples": 8}, 64, "gauss-newton"),
        ({"samples": 8, "loss": nn.CrossEntropyLoss(label_smoothing=0.1)}, 64, "gauss-newton"),
        ({"samples": 2, "norm": "train"}, 9, "exact"),
        ({"samples": 2, "norm": "train"}, 8, "probes"),
        ({"samples": 2, "loss": squared}, 9, "exact"),
        ({"samples": 2, "loss": squared}, 8, "probes"),
    ],
)
def test_the_automatic_choice(settings: dict[str, Any], few: int, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ObaDiag, "FEW", few)
    net = BY_NAME["residual"]
    found, named = scored(net, "auto", **settings), scored(net, way, **settings)
    assert torch.equal(joined(found.alone), joined(named.alone))
    drawn = way == "probes" or (way == "gauss-newton" and settings["samples"] < 3)
    assert (found.standard_error is not None) is drawn
    others = {"exact", "gauss-newton", "probes"} - {way}
    if settings.get("loss") is squared or settings.get("norm") == "train":
        others -= {"gauss-newton"}
    for other in others:
        assert not torch.allclose(joined(scored(net, other, **settings).alone), joined(found.alone), rtol=1e-6)


def test_probes_report_the_error_of_the_weighted_mean() -> None:
    net = BY_NAME["mlp"]
    exact = joined(scored(net, "exact").alone)
    runs = [scored(net, "probes", samples=6, seed=seed) for seed in range(60)]
    means = torch.stack([joined(run.alone) for run in runs])
    errors = torch.stack([joined(run.standard_error) for run in runs])
    alive = means.std(0) > 1e-12
    assert alive.sum() >= 8
    # Calibrated: the mean variance that is reported is the variance between runs.
    ratio = errors.square().mean(0)[alive] / means.var(0)[alive]
    assert ratio.min() > 0.45
    assert ratio.max() < 2.2
    deviation = (means.mean(0) - exact).abs()[alive]
    assert (deviation <= 4.5 * means.std(0)[alive] / len(runs) ** 0.5).all()
    assert runs[0].interactions is None
    assert runs[0].in_nats


def test_the_error_of_a_mean_over_batches_weighs_squared() -> None:
    net = BY_NAME["mlp"]
    model, batches = net.member.make(), [net.member.batch(size, seed) for seed, size in enumerate(SIZES)]
    together = joined(scored(net, "probes", samples=4, seed=5).standard_error)
    # Each batch has draws of its own, named by its number.
    variances = []
    for k in range(3):
        generator = torch.Generator().manual_seed(derive_seed(5, "batch", k))
        z = torch.randint(2, (4, 9), generator=generator).double() * 2 - 1
        inputs, targets = batches[k]
        ones = torch.ones(9, dtype=torch.float64)
        matrix = torch.func.jacrev(
            torch.func.jacrev(lambda m, x=inputs, t=targets: F.cross_entropy(net.by_hand(model, m, x), t))
        )(ones)
        variances.append((z * (z @ matrix)).var(0) / 4 / 4)
    of_mean = sum((n / sum(SIZES)) ** 2 * v for n, v in zip(SIZES, variances, strict=True))
    assert isinstance(of_mean, Tensor)
    torch.testing.assert_close(together, of_mean.sqrt().detach(), rtol=1e-9, atol=1e-12)


def test_what_is_drawn_follows_the_seed() -> None:
    net = BY_NAME["mlp"]
    for hessian in ("probes", "gauss-newton"):
        first, again, other = (joined(scored(net, hessian, samples=2, seed=seed).alone) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_settings_are_checked() -> None:
    net = BY_NAME["mlp"]
    with pytest.raises(ConfigError, match="hessian: got 'full'; allowed: 'auto', 'exact', 'gauss-newton' or 'probes'"):
        scored(net, "full")
    with pytest.raises(ConfigError, match="samples: got 1; allowed: greater than or equal to 2"):
        scored(net, "probes", samples=1)


@pytest.mark.parametrize("hessian", ["exact", "gauss-newton", "probes", "auto"])
def test_a_group_that_no_layer_takes_is_refused(hessian: str) -> None:
    net = BY_NAME["mlp"]
    loose = StructureGroup("2", (Slice("2", "out", ((0,), (1,), (2,), (3,))),))
    with pytest.raises(ScoreError, match="group '2': no layer takes its structures as input to be masked"):
        raw_scores(net.member.make(), [net.groups[0], loose], [net.member.batch()], "oba-diag", hessian=hessian)
    with pytest.raises(ScoreError, match="criterion 'oba-diag': there are no structures to score"):
        raw_scores(net.member.make(), [], [net.member.batch()], "oba-diag", hessian=hessian)


class Windows(nn.Module):
    """Moves parts of an image into the batch, one part of all images after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.head = nn.Linear(4, 5), nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        windows = x.unflatten(1, (2, 3)).transpose(0, 1).flatten(0, 1)
        return self.head(self.inner(torch.tanh(self.stem(windows))).unflatten(0, (2, -1)).mean((0, 2)))


def test_a_layer_whose_rows_are_no_examples_is_left_to_exact_rows() -> None:
    torch.manual_seed(0)
    model, inputs, targets = Windows().double(), torch.randn(3, 6, 4, dtype=torch.float64), torch.tensor([0, 2, 1])
    groups = [group("stem", 5, ("stem", "out"), ("inner", "in"))]
    with pytest.raises(ScoreError, match="layer 'inner' takes 6 rows for 3 examples: it cannot be told which belong"):
        raw_scores(model, groups, [(inputs, targets)], "oba-diag", hessian="gauss-newton", samples=4)

    def value(masks: Tensor) -> Tensor:
        x = model.inner(torch.tanh(model.stem(inputs)) * masks)
        return F.cross_entropy(model.head(x.mean(1)), targets)

    ones = torch.ones(5, dtype=torch.float64)
    change = torch.func.jacrev(torch.func.jacrev(value))(ones).diagonal() / 2 - torch.func.grad(value)(ones)
    for hessian in ("exact", "auto"):
        for batches in ([(inputs, targets)], [(inputs, targets)] * 2):
            found = raw_scores(model, groups, batches, "oba-diag", hessian=hessian, samples=4)["stem"]
            torch.testing.assert_close(found, change.detach(), rtol=1e-9, atol=1e-13)

"""The K-FAC family against dense matrices: the Fisher information of explicit gradients, and quadratic programmes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from convolutions import LAYERS, Units, X, network
from masked_nets import BY_NAME, MaskedNet, group, single, squared
from per_example import factors, gradients, seen
from scoring import raw_scores
from torch import Tensor, nn

import oba.importance.filter_fisher as module
from oba.errors import ConfigError, ScoreError
from oba.importance import parameter_scores, score_structures
from oba.importance.batches import Batch, Doubts
from oba.importance.criterion import make_criterion
from oba.structures import OUT, Slice, StructureGroup

ALONE = group("0", 3, ("0", "out"))
FAMILY = ["c-obd", "c-obs", "kron-obd", "kron-obs"]
NETS = ["mlp", "residual", "flat", "depthwise", "mixer", "twice", "piecewise"]
SIZES = (9, 4, 11)
DAMPING = 0.05


def batches(net: MaskedNet) -> list[tuple[Tensor, Tensor]]:
    return [net.member.batch(size, seed) for seed, size in enumerate(SIZES)]


def damped(matrix: Tensor) -> Tensor:
    return matrix + DAMPING * matrix.diagonal().mean() * torch.eye(len(matrix), dtype=torch.float64)


def theta(layer: Any) -> Tensor:
    """Return filters with their biases, (groups, outputs of a group, columns)."""
    weight = layer.weight.detach().flatten(1)
    full = weight if layer.bias is None else torch.cat([weight, layer.bias.detach()[:, None]], 1)
    return full.unflatten(0, (getattr(layer, "groups", 1), -1))


def by_filters(price: Callable[[Tensor, Tensor, Tensor, Tensor], float], net: MaskedNet) -> dict[str, list[float]]:
    """Add up over the layers, and over the groups of a layer, what a price makes of each structure's filters.

    ``price(gradients, A, G, change)`` gets one group of a layer; ``change`` is the step that removes the filters, in
    the shape of Θ.
    """
    model = net.member.make().eval()
    x, y = (torch.cat(parts) for parts in zip(*batches(net), strict=True))
    found = {g.name: [0.0] * len(g) for g in net.groups}
    for g in net.groups:
        for entry in g.on_axis(OUT):
            examples = seen(model, entry.layer, x, y, F.cross_entropy)
            a, s = factors(examples)
            weights = theta(model.get_submodule(entry.layer))
            for i, own in enumerate(entry.indices):
                change = torch.zeros_like(weights)
                change.flatten(0, 1)[list(own)] = -weights.flatten(0, 1)[list(own)]
                for k in range(len(weights)):
                    if change[k].any():
                        found[g.name][i] += price(gradients(examples)[:, k], a[k], s[k], change[k])
    return found


def diagonal(grads: Tensor, _a: Tensor, _g: Tensor, change: Tensor) -> float:
    fisher = torch.einsum("ni,nj->ij", grads.flatten(1), grads.flatten(1)) / len(grads)
    return float((fisher.diagonal() * change.flatten().square()).sum() / 2)


def kron_damage(_grads: Tensor, a: Tensor, g: Tensor, change: Tensor) -> float:
    return float(change.flatten() @ torch.kron(g, a) @ change.flatten() / 2)


def kron_surgeon(_grads: Tensor, a: Tensor, g: Tensor, change: Tensor) -> float:
    """Solve the quadratic programme: the filters go, everything else moves freely."""
    fisher = torch.kron(damped(g), a)
    gone = (change != 0).any(1, keepdim=True).expand_as(change).flatten()
    step = change.flatten().clone()
    if not gone.all():
        slope = fisher[~gone][:, gone] @ step[gone]
        step[~gone] = -torch.linalg.lstsq(fisher[~gone][:, ~gone], slope, driver="gelsd").solution
    return float(step @ fisher @ step / 2)


def surgeon_of_weights(_grads: Tensor, a: Tensor, g: Tensor, change: Tensor) -> float:
    inverse = torch.linalg.inv(torch.kron(damped(g), damped(a)))
    return float((change.flatten().square() / inverse.diagonal()).sum() / 2)


PRICES = {"c-obd": diagonal, "c-obs": surgeon_of_weights, "kron-obd": kron_damage, "kron-obs": kron_surgeon}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("criterion", FAMILY)
def test_scores_are_what_the_dense_matrix_says(criterion: str, name: str) -> None:
    """Of biases, residual streams, depthwise and shared layers, tokens, and structures of several filters."""
    net = BY_NAME[name]
    options = {"damping": DAMPING} if criterion.endswith("obs") else {}
    found = score_structures(net.member.make(), net.groups, batches(net), criterion, labels="given", **options)
    expected = by_filters(PRICES[criterion], net)
    assert found.in_nats
    assert found.alone.keys() == expected.keys()
    for key, scores in found.alone.items():
        assert scores.max() > 1e-9
        torch.testing.assert_close(scores.tolist(), expected[key], rtol=1e-6, atol=1e-14)


@pytest.mark.parametrize("criterion", FAMILY)
def test_batches_make_no_difference(criterion: str) -> None:
    net = BY_NAME["residual"]
    whole = [tuple(torch.cat(parts) for parts in zip(*batches(net), strict=True))]
    one, many = (raw_scores(net.member.make(), net.groups, b, criterion, labels="given") for b in (whole, batches(net)))
    for key, scores in one.items():
        torch.testing.assert_close(many[key], scores, rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("criterion", FAMILY)
def test_classes_are_drawn_from_what_the_model_says(criterion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = BY_NAME["mlp"]
    model = net.member.make()
    shown: list[Tensor] = []
    drawn: list[Tensor] = []

    def draw(p: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        shown.append(p)
        drawn.append(original(p, samples, generator))
        return drawn[-1]

    original = module.draw_classes
    monkeypatch.setattr(module, "draw_classes", draw)
    found = raw_scores(model, net.groups, batches(net), criterion, seed=3)
    inputs = [x for x, _ in batches(net)]
    for x, p, classes in zip(inputs, shown, drawn, strict=True):
        torch.testing.assert_close(p, model(x).softmax(1))
        assert classes.shape == (len(x), 1)
    given = [(x, classes[:, 0]) for x, classes in zip(inputs, drawn, strict=True)]
    for key, scores in raw_scores(model, net.groups, given, criterion, labels="given").items():
        torch.testing.assert_close(found[key], scores, rtol=1e-10, atol=1e-18)


@pytest.mark.parametrize("criterion", FAMILY)
def test_the_seed_draws_the_classes(criterion: str) -> None:
    net = BY_NAME["mlp"]
    first, again, other = (
        raw_scores(net.member.make(), net.groups, batches(net), criterion, seed=seed)["0"] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("criterion", FAMILY)
def test_frozen_parameters_change_nothing(criterion: str) -> None:
    net = BY_NAME["residual"]
    expected = raw_scores(net.member.make(), net.groups, batches(net), criterion)
    for key, scores in raw_scores(net.member.make().requires_grad_(False), net.groups, batches(net), criterion).items():
        torch.testing.assert_close(scores, expected[key], rtol=1e-10, atol=1e-18)


@pytest.mark.parametrize("criterion", ["c-obs", "kron-obd", "kron-obs"])
def test_a_fault_of_a_batch_is_raised_although_all_batches_are_held(criterion: str) -> None:
    """On a GPU batches note faults for later, and nobody would look at them again."""
    net = BY_NAME["mlp"]
    inputs, targets = net.member.batch(4)
    batch = Batch(0, inputs, targets + 7, F.cross_entropy, Doubts())
    with pytest.raises(ScoreError, match=r"batch 0: target . is out of range; allowed: 0..2"):
        make_criterion(criterion, labels="given").score(net.member.make().eval(), net.groups, [batch])


def test_scores_of_weights_are_half_of_what_the_diagonal_says() -> None:
    net = BY_NAME["mlp"]
    model = net.member.make()
    scores = parameter_scores(model, batches(net), "c-obd", labels="given")
    assert scores.keys() == dict(model.named_parameters()).keys()
    x, y = (torch.cat(parts) for parts in zip(*batches(net), strict=True))
    expected = torch.zeros_like(model.get_parameter("2.weight"))
    for i in range(len(x)):
        value = F.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        (gradient,) = torch.autograd.grad(value, [model.get_parameter("2.weight")])
        expected += gradient.square() * model.get_parameter("2.weight").detach().square() / 2 / len(x)
    torch.testing.assert_close(scores["2.weight"], expected, rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("name", ["mlp", "residual", "mixer"])
def test_what_the_other_filters_make_up_for_costs_nothing(name: str) -> None:
    net = BY_NAME[name]
    surgeon = raw_scores(net.member.make(), net.groups, batches(net), "kron-obs", damping=0)
    damage = raw_scores(net.member.make(), net.groups, batches(net), "kron-obd")
    for key, scores in surgeon.items():
        assert (scores <= damage[key] * (1 + 1e-9) + 1e-12).all()
        assert scores.sum() < 0.98 * damage[key].sum()


@pytest.mark.parametrize("criterion", FAMILY)
def test_they_do_not_see_which_way_the_loss_goes(criterion: str) -> None:
    """The loss and its negative have the same Fisher information: there is no first-order term."""
    net = BY_NAME["mlp"]
    up, down = (
        raw_scores(net.member.make(), net.groups, batches(net), criterion, labels="given", loss=loss)
        for loss in (F.cross_entropy, lambda outputs, targets: -F.cross_entropy(outputs, targets))
    )
    for key, scores in up.items():
        torch.testing.assert_close(down[key], scores, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("criterion", "forward"), [("c-obd", 1), ("kron-obd", 1), ("kron-obs", 1), ("c-obs", 2)])
def test_scores_cost_one_pass_each_way_and_c_obs_another_forward(criterion: str, forward: int) -> None:
    """Besides products of inputs and derivatives in float64, which are no convolutions."""
    model = network()
    groups = [group(f"{2 * i}", 3, (f"{2 * i}", "out"), (f"{2 * i + 2}", "in")) for i in range(LAYERS - 1)]
    with Units() as units:
        raw_scores(model, groups, [(X, torch.tensor([0, 2]))], criterion)
    assert units.count == {"forward": forward * LAYERS, "to input": LAYERS, "to weight": 0}


class Unnormalised(nn.Module):
    """A batch norm that keeps no statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.stem(x)))


@pytest.mark.parametrize("criterion", FAMILY)
def test_what_has_no_fisher_information_is_refused(criterion: str) -> None:
    net = BY_NAME["mlp"]
    with pytest.raises(
        ScoreError, match="labels: 'sampled' holds for cross-entropy alone; allowed with another loss: labels: given"
    ):
        raw_scores(net.member.make(), net.groups, batches(net), criterion, loss=squared)
    assert raw_scores(net.member.make(), net.groups, batches(net), criterion, loss=squared, labels="given")
    loose = StructureGroup("0", (Slice("2", "in", single(5)),))
    with pytest.raises(ScoreError, match="group '0': no Conv or Linear layer makes its structures"):
        raw_scores(net.member.make(), [loose], batches(net), criterion)
    coupled, groups = Unnormalised(), [group("stem", 3, ("stem", "out"), ("norm", "feature"), ("head", "in"))]
    images = [(torch.randn(5, 4), torch.zeros(5, dtype=torch.long))]
    message = f"criterion '{criterion}' needs examples that do not depend on each other, but 'norm' normalises by the"
    with pytest.raises(ScoreError, match=message):
        raw_scores(coupled, groups, images, criterion)
    with pytest.raises(ScoreError, match=message):
        make_criterion(criterion).require(coupled.eval(), groups)
    with pytest.raises(ScoreError, match=r"labels: 'sampled' needs logits of shape \(examples, classes\), not shape"):
        raw_scores(nn.Sequential(nn.Linear(4, 3), nn.Unflatten(1, (3, 1))), [ALONE], images, criterion)


class Unused(nn.Module):
    """One of two layers that make a stream is never asked."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.back, self.head = nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.stem(x)))


@pytest.mark.parametrize("criterion", FAMILY)
def test_a_part_of_a_structure_that_cannot_be_seen_is_refused(criterion: str) -> None:
    stream = group("stem", 3, ("stem", "out"), ("back", "out"), ("head", "in"))
    images = [(torch.randn(5, 4), torch.zeros(5, dtype=torch.long))]
    with pytest.raises(ScoreError, match="layer 'back'"):
        raw_scores(Unused(), [stream], images, criterion)


class Doubling(nn.Linear):
    """A layer that is none of its own weight."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


@pytest.mark.parametrize("criterion", FAMILY)
def test_a_layer_that_is_none_of_its_own_weight_is_refused(criterion: str) -> None:
    model = nn.Sequential(Doubling(4, 3), nn.ReLU(), nn.Linear(3, 3))
    images = [(torch.randn(5, 4), torch.zeros(5, dtype=torch.long))]
    with pytest.raises(ScoreError, match=rf"criterion '{criterion}': layer '0' \(Doubling\) does not compute W X \+ b"):
        raw_scores(model, [ALONE], images, criterion)


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"criterion 'c-obd' has no option 'damping'; allowed: labels"):
        make_criterion("c-obd", damping=0.1)
    with pytest.raises(ConfigError, match=r"damping: got -1; allowed: greater than or equal to 0"):
        make_criterion("kron-obs", damping=-1)
    with pytest.raises(ConfigError, match=r"labels: got True; allowed: 'sampled' or 'given'"):
        make_criterion("kron-obd", labels=True)
